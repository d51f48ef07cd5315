"""Verify an artifact by its card, without running a model: that the card says enough, and that the files are its own.

A card cannot prove that nobody has made it up from end to end; running the comparison again can
(``vision-parity verify --deep``).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from conversion.artifact.card import NOT_COMPARED, digest_of, list_cells, place_of
from conversion.artifact.card_points import eps_of, read_points
from conversion.artifact.checks import check_card
from conversion.artifact.derived import (
    find_false_checksums,
    find_false_deviation,
    find_false_entries,
    find_false_exports,
    find_false_figures,
    find_false_files,
    find_false_twin,
    find_repetitions,
)
from conversion.artifact.files import list_foreign
from conversion.artifact.reading import read_card, read_fields
from conversion.artifact.weights import is_published
from conversion.errors import ArtifactError
from conversion.exports.looked_at import select_stages
from conversion.families.base import Family
from conversion.parity.deviations import split_names
from conversion.parity.verdict import OURS, Tolerances, Verdict, grant_loss, judge_again, worst
from conversion.state_dicts.folder import CONFIG, read_config
from conversion.state_dicts.restore import find_family


def verify_artifact(
    directory: str | Path, tolerances: Tolerances = OURS, checksums: Path | None = None
) -> dict[str, Any]:
    """Check that an artifact is what its verification card says, and that the card says that it is the same model.

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
    foreign = [f"{name}: not of an artifact; a model may be loaded from it" for name in list_foreign(directory)]
    problems = list(_find_false_files(directory))
    try:
        config = read_config(directory)
        family = find_family(config)
        spec = family.read_spec(config, family.build_spec(**read_fields(card)))
    except Exception as error:  # whatever transformers makes of it
        problems.append(f"{CONFIG}: describes no model that is known: {error}")
    else:
        problems += find_contradictions(card, family, spec, tolerances)
        problems += find_false_files(directory, card, family, spec)
    if checksums is not None:
        problems += find_false_checksums(card, checksums)
    if not card["activations"] and card.get("exports"):
        problems.append("what it was exported to was compared, and the model itself was not")
    if card["verdict"] == Verdict.FAILED:
        problems.append("by the card itself, it is not the same model")
    failed = [cell["attention"] for cell in card.get("exports", ()) if cell["verdict"] == Verdict.FAILED]
    problems += [f"by the card itself, its export to {name} is not the same model" for name in failed]
    if problems or foreign:
        hint = "Convert the original checkpoint again; do not use what is here."
        hint = hint if problems else "All else is as it was. Move these files out of the folder."
        raise ArtifactError(f"{directory}: is not verified.", [*problems, *foreign], hint)
    return card


def _find_false_files(directory: Path) -> Iterator[str]:
    """What lies there and is not as the card says; or is, and was not published."""
    try:
        check_card(directory)
    except ArtifactError as error:
        yield from error.problems or [error.headline]
    except OSError as error:
        yield f"cannot be read: {error}"
    if not is_published(directory):
        yield "was not published: a run was killed here"


def find_contradictions(
    card: Mapping[str, Any], family: Family[Any], spec: Any, tolerances: Tolerances = OURS
) -> Iterator[str]:
    """What in a card is missing, or does not go with the rest of it, or with the artifact's config.

    Args:
        family, spec: of the config.
    """
    if card["digest"] != digest_of(card):
        yield "the card was edited: its digest is another"
    if other := describe_other_family(card, family):
        yield other
    if other := describe_other_spec(card, spec):
        yield other
        return
    yield from find_false_entries(card, family, spec)
    yield from find_repetitions(card)
    cells = list_cells(card)
    if not cells:
        yield f"activations were {NOT_COMPARED}; vision-parity convert compares them"
    yield from find_false_exports(card)
    for cell in cells:
        where = ", ".join(place_of(cell))
        if all(result["baked_twin"] or result["masked"] for result in cell["inputs"]):
            yield f"{where}: no input went through all of the artifact itself"
        for result in cell["inputs"]:
            found = _find_in_input(result, cell, family, spec, tolerances)
            problems = chain(found, find_false_twin(result), find_false_deviation(card, cell, result, family, spec))
            yield from (f"{where}, {result['input']}: {problem}" for problem in problems)
        yield from _compare_verdicts(where, cell["verdict"], [result["verdict"] for result in cell["inputs"]])
    if card["activations"]:
        yield from _compare_verdicts("the card", card["verdict"], [cell["verdict"] for cell in card["activations"]])


def describe_other_family(card: Mapping[str, Any], family: Family[Any]) -> str | None:
    """Say that the family of an artifact's config is not that of its card; None where they are the same."""
    is_same = card["family"] == family.name
    return None if is_same else f"the card describes another family: {card['family']}, by {CONFIG} {family.name}"


def describe_other_spec(card: Mapping[str, Any], spec: Any) -> str | None:
    """Say in what the spec of an artifact's config is not that of its card; None where they are the same."""
    # a card of before a field was there describes a model that has its default
    said, found = (json.loads(json.dumps(each)) for each in ({**list_defaults(spec), **card["spec"]}, asdict(spec)))
    others = [name for name in dict.fromkeys([*said, *found]) if said.get(name) != found.get(name)]
    sides = "; ".join(f"{name} {found.get(name)}, in the card {said.get(name)}" for name in others)
    return f"{CONFIG} describes another model than the card: {sides}" if others else None


def list_defaults(spec: Any) -> dict[str, Any]:
    """The fields of a spec that need not be given, with what they are then."""
    return {field.name: field.default for field in fields(spec) if field.default is not MISSING}


def _find_in_input(
    result: Mapping[str, Any], cell: Mapping[str, Any], family: Family[Any], spec: Any, tolerances: Tolerances
) -> Iterator[str]:
    dtype = cell["dtype"]
    known = {entry.name for entry in family.ledger if not entry.avoided}
    unknown = set(split_names(result["deviation"])) - known
    if unknown:
        yield f"not in the ledger of known deviations: {', '.join(sorted(unknown))}"
    points = read_points(result["points"], dtype)
    yield from find_false_figures(result, points)
    stages = family.list_stages(spec, masked=result["masked"])
    stages = select_stages(stages) if "exported" in cell else stages
    expected = [point.name for stage in stages for point in stage.points]
    if [point.point for point in points] != expected:
        absent = sorted(set(expected) - {point.point for point in points}) or ["in another order"]
        yield f"points are not those of this model: {', '.join(absent[:5])}"
    verdicts = [judge_again(point, eps_of(dtype), tolerances) for point in points]
    if "exported" in cell:
        pairs = zip(points, verdicts, strict=True)
        verdicts = [grant_loss(replace(point, verdict=verdict)).verdict for point, verdict in pairs]
    false = [
        point.point
        for point, verdict in zip(points, verdicts, strict=True)
        if worst([verdict, point.verdict]) is not point.verdict
    ]
    if false:
        yield f"by their figures, points are worse than said: {', '.join(false[:5])}"
    verdict = worst([*verdicts, *(point.verdict for point in points)])
    if result.get("aligned") and verdict is not Verdict.EXACT:
        yield "the card says that aligned weights make it exact; by its points it is not"
    otherwise = set(result.get("otherwise", ()))
    if otherwise and not result["deviation"]:
        yield "the card says that transformers computes it otherwise, and names no deviation"
    if result["deviation"] and not otherwise and verdict is not Verdict.FAILED:
        yield f"{result['deviation']} is said to apply, and no point is said to be off by it"
    if not all(math.isfinite(size) for sizes in result.get("otherwise", {}).values() for size in sizes):
        yield "otherwise: a size that is no number"
    if otherwise - set(expected):
        yield f"otherwise: no points of this model: {', '.join(sorted(otherwise - set(expected))[:5])}"
    yield from _compare_verdicts("all points", result["verdict"], [verdict])


def _compare_verdicts(of: str, said: str, parts: Sequence[str]) -> Iterator[str]:
    found = worst([Verdict(part) for part in parts])
    if Verdict(said) is not found:
        yield f"{of}: the verdict is {said}, by its parts {found}"
