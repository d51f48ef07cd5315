"""Verify an artifact by its card, without running a model: that the card says enough, and that the files are its own.

A card cannot prove that nobody has made it up from end to end; running the comparison again can
(``python -m conversion verify --deep``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from conversion.artifact.card import NOT_COMPARED, SCHEMA, digest_of
from conversion.artifact.derived import (
    find_false_checksums,
    find_false_deviation,
    find_false_entries,
    find_false_figures,
    find_false_files,
    find_repetitions,
)
from conversion.artifact.files import list_foreign
from conversion.artifact.schemas import demand_schema
from conversion.artifact.stage import check_card
from conversion.artifact.weights import is_published
from conversion.errors import ArtifactError
from conversion.families.base import Family, load_family
from conversion.parity.deviations import split_names
from conversion.parity.metrics import Difference, Distance
from conversion.parity.verdict import OURS, PointVerdict, Tolerances, Verdict, judge_again, worst
from conversion.parity.verify import InputVerdict, conclude
from conversion.state_dicts.folder import CONFIG, PARITY_CARD, read_config
from conversion.state_dicts.restore import find_family


def verify_artifact(
    directory: str | Path, tolerances: Tolerances = OURS, checksums: Path | None = None
) -> dict[str, Any]:
    """Demand that an artifact is what its verification card says, and that the card says that it is the same model.

    Args:
        tolerances: to judge the figures in the card by.
        checksums: of official files, as downloads record them, if they are at hand.

    Returns:
        the card.

    Raises:
        ArtifactError: there is no such card, its files are others, nothing was compared, or a verdict does not follow
            from its figures; with every problem found.
    """
    directory = Path(directory)
    card = read_card(directory)
    problems = list(_find_foreign_files(directory))
    try:
        config = read_config(directory)
        family = find_family(config)
        spec = family.read_spec(config, family.build_spec(**_read_fields(card)))
    except Exception as error:  # whatever transformers makes of it
        problems.append(f"{CONFIG}: describes no model that is known: {error}")
    else:
        problems += find_contradictions(card, family, spec, tolerances)
        problems += find_false_files(directory, card, family, spec)
    if checksums is not None:
        problems += find_false_checksums(card, checksums)
    if card["verdict"] == Verdict.FAILED:
        problems.append("by the card itself, it is not the same model")
    if problems:
        hint = "Convert the original checkpoint again; do not use what is here."
        raise ArtifactError(f"{directory}: is not verified.", problems, hint)
    return card


def read_card(directory: Path) -> dict[str, Any]:
    """The content of ``parity.json``, as its schema says it is.

    Raises:
        ArtifactError: there is none, or it is anything else.
    """
    path = directory / PARITY_CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    found = card.get("schema") if isinstance(card, dict) else None
    if found != SCHEMA:
        hint = "Verify it with the version that wrote it, or convert the checkpoint again."
        raise ArtifactError(f"{path}: its schema is {found!r}, not {SCHEMA!r}.", hint=hint)
    demand_schema(card, "parity_card", path, "verification card")
    return dict(card)


def rebuild_spec(card: Mapping[str, Any]) -> Any:
    """The spec that a card speaks of."""
    return load_family(card["family"]).build_spec(**_read_fields(card))


def _read_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in card["spec"].items()}


def _find_foreign_files(directory: Path) -> Iterator[str]:
    """What lies there and is not what the card speaks of; or is what it speaks of, and does not load."""
    try:
        check_card(directory)
    except ArtifactError as error:
        yield from error.problems or [error.headline]
    except OSError as error:
        yield f"cannot be read: {error}"
    if not is_published(directory):
        yield "was not published: a run was killed here"
    yield from (f"{name}: not of an artifact; a model may be loaded from it" for name in list_foreign(directory))


def find_contradictions(
    card: Mapping[str, Any], family: Family[Any], spec: Any, tolerances: Tolerances = OURS
) -> Iterator[str]:
    """What in a card is missing, or does not go with the rest of it, or with the artifact's config.

    Args:
        family, spec: of the config.
    """
    if card["digest"] != digest_of(card):
        yield "the card was edited: its digest is another"
    if card["family"] != family.name:
        yield f"the card speaks of another family: {card['family']}, by {CONFIG} {family.name}"
    if card["spec"] != json.loads(json.dumps(asdict(spec))):
        yield f"the card speaks of another model: {card['spec']}, by config.json {asdict(spec)}"
        return
    yield from find_false_entries(card, family, spec)
    yield from find_repetitions(card)
    if not card["activations"]:
        yield f"activations were {NOT_COMPARED}"
    for cell in card["activations"]:
        where = f"{cell['device']}, {cell['dtype']}, {cell['attention']}"
        if all(result["baked_twin"] or result["masked"] for result in cell["inputs"]):
            yield f"{where}: no input went through all of the artifact itself"
        eps = torch.finfo(getattr(torch, cell["dtype"])).eps
        for result in cell["inputs"]:
            find = partial(_find_in_input, family=family, spec=spec, eps=eps, tolerances=tolerances)
            problems = chain(find(result), find_false_deviation(card, cell, result, family, spec))
            yield from (f"{where}, {result['input']}: {problem}" for problem in problems)
        yield from _compare_verdicts(where, cell["verdict"], [result["verdict"] for result in cell["inputs"]])
    if card["activations"]:
        yield from _compare_verdicts("the card", card["verdict"], [cell["verdict"] for cell in card["activations"]])


def _find_in_input(
    result: Mapping[str, Any], family: Family[Any], spec: Any, eps: float, tolerances: Tolerances
) -> Iterator[str]:
    known = {entry.name for entry in family.ledger if not entry.avoided}
    unknown = set(split_names(result["deviation"])) - known
    if unknown:
        yield f"not in the ledger of known deviations: {', '.join(sorted(unknown))}"
    stages = family.list_stages(spec, masked=result["masked"])
    expected = [point.name for stage in stages for point in stage.points]
    judged: list[list[Verdict]] = []
    read = {name: [read_point(record) for record in result.get(name, [])] for name in ("points", "counterfactual")}
    points, counterfactual = map(tuple, read.values())
    whole = InputVerdict(result["input"], result["verdict"], (), points, counterfactual=counterfactual)
    yield from find_false_figures(result, whole)
    for name, held in read.items():
        if held and [point.point for point in held] != expected:
            absent = sorted(set(expected) - {point.point for point in held}) or ["in another order"]
            yield f"{name} are not those of this model: {', '.join(absent[:5])}"
        # what has the sign of a zero only is noted as a deviation of no size: better by figures than by the card
        verdicts = [worst([point.verdict, judge_again(point, eps, tolerances)]) for point in held]
        false = [p.point for p, verdict in zip(held, verdicts, strict=True) if verdict != p.verdict]
        if false:
            yield f"by their figures, {name} are worse than said: {', '.join(false[:5])}"
        judged.append(verdicts)
    of_points, of_counterfactual = judged
    if Verdict.DEVIATION in of_counterfactual:
        yield "a deviation from its own counterfactual"
    if Verdict.DEVIATION in of_points and not (result["deviation"] and of_counterfactual):
        yield "a deviation without its counterfactual"
    if result.get("aligned") and worst(of_counterfactual or of_points) is not Verdict.EXACT:
        yield "aligned weights are said to make it exact, and it is not"
    yield from _compare_verdicts("all points", result["verdict"], [conclude(of_points, of_counterfactual)])


def read_point(record: Mapping[str, Any]) -> PointVerdict:
    """A capture point's verdict as it was before it was written down."""
    kinds = {"difference": Difference} | dict.fromkeys(
        ("local", "original_error", "converted_error", "allowed", "scale", "scatter"), Distance
    )
    figures: dict[str, Any] = {name: kinds[name](**value) if name in kinds else value for name, value in record.items()}
    return PointVerdict(**{**figures, "verdict": Verdict(record["verdict"])})


def _compare_verdicts(of: str, said: str, parts: Sequence[str]) -> Iterator[str]:
    found = worst([Verdict(part) for part in parts])
    if Verdict(said) is not found:
        yield f"{of}: the verdict is {said}, by its parts {found}"
