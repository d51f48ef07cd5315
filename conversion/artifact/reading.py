"""Read verification cards, those of an earlier version too."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conversion.artifact.card import SCHEMA, digest_of
from conversion.artifact.card_points import COLUMNS, record_distances, record_points
from conversion.artifact.card_spec import check_spec
from conversion.artifact.schemas import check_schema
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.intake.transformers_folder import compare_command, is_transformers_folder
from conversion.parity.metrics import NO_DIFFERENCE, Distance
from conversion.parity.verdict import PointVerdict, Verdict, worst
from conversion.state_dicts.folder import PARITY_CARD, parse_json

EARLIER = "parity-card/2"
"""In which a deviation was a verdict, and every capture point had all its figures by name."""

READABLE = (SCHEMA, EARLIER)
UNJUDGED = "it differs, and was not compared with the original computing as transformers does"


def read_card(directory: Path) -> dict[str, Any]:
    """The content of ``parity.json``, as its schema says it is; one of an earlier version as this one writes it.

    Raises:
        ArtifactError: there is none, or it is anything else.
    """
    path = directory / PARITY_CARD
    try:
        card = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"A conversion writes one. To compare the folder with its original: {compare_command(directory)}"
        hint = hint if is_transformers_folder(directory) else "Check the path of the folder."
        raise ArtifactError(f"{directory}: has no verification card, {PARITY_CARD}.", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        if directory.is_file():
            is_of_card = (directory.parent / PARITY_CARD).is_file()
            inspect = f"vision-parity inspect {shlex.quote(str(directory))} says what it is."
            hint = f"Give its folder: {directory.parent}" if is_of_card else inspect
            raise ArtifactError(f"{directory}: is a file, not a converted model.", hint=hint) from error
        raise ArtifactError(f"{path}: cannot be read: {error}", hint="Convert the checkpoint again.") from error
    found = card.get("schema") if isinstance(card, dict) else None
    if found not in READABLE:
        hint = "Verify it with the version that wrote it, or convert the checkpoint again."
        raise ArtifactError(f"{path}: its schema is {found!r}, not {SCHEMA!r}.", hint=hint)
    return modernise_card(card, path)


def modernise_card(card: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A card of any version that can be read, as this one writes it.

    Args:
        path: where it was read, for the message.

    Raises:
        ArtifactError: it is not as its schema says, or its spec is of no model.
    """
    if card["schema"] == EARLIER:
        try:
            card = upgrade(card)
        except Exception as error:  # values of other types, sizes and lengths than a card has
            raise ArtifactError(f"{path}: is no verification card.", [f"as {EARLIER}: {error!r}"]) from error
    check_schema(card, "parity_card", path, "verification card")
    check_spec(card, path)
    return dict(card)


def rebuild_spec(card: Mapping[str, Any]) -> Any:
    """The spec that a card speaks of."""
    return load_family(card["family"]).build_spec(**read_fields(card))


def read_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of that spec."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in card["spec"].items()}


def upgrade(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card of the earlier version as this one writes it. What it says is kept, true or not: it is judged afterwards.

    Its digest is that of the new content, if it had its own; else it stays wrong.
    """
    cells = [_upgrade_cell(cell) for cell in card["activations"]]
    verdict = _upgrade_verdict(card["verdict"], [cell["verdict"] for cell in cells])
    upgraded = {**card, "schema": SCHEMA, "columns": list(COLUMNS), "activations": cells, "verdict": verdict}
    return upgraded | {"digest": digest_of(upgraded) if card["digest"] == digest_of(card) else card["digest"]}


def _upgrade_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [_upgrade_input(result) for result in cell["inputs"]]
    verdict = _upgrade_verdict(cell["verdict"], [result["verdict"] for result in inputs])
    return {**cell, "inputs": inputs, "verdict": verdict}


def _upgrade_input(result: Mapping[str, Any]) -> dict[str, Any]:
    noted = {record["point"]: _read_point(record) for record in result["points"]}
    if "counterfactual" in result and list(noted) != [record["point"] for record in result["counterfactual"]]:
        raise ValueError(f"{result['input']} has other points than under the counterfactual")
    failed = {record["point"] for record in result["points"] if record["verdict"] == Verdict.FAILED}
    decisive = [_read_point(record) for record in result.get("counterfactual") or result["points"]]
    points = [noted[point.point] if point.point in failed else point for point in decisive]
    sizes = {name: each.difference for name, each in noted.items() if each.reason == UNJUDGED and each.difference}
    kept = {name: value for name, value in result.items() if name not in ("max_ulp", "counterfactual")}
    verdict = _upgrade_verdict(result["verdict"], [point.verdict for point in points])
    upgraded = {**kept, "verdict": verdict, "points": record_points(points)}
    if result.get("counterfactual") and sizes:
        upgraded["otherwise"] = record_distances(sizes)
    return upgraded


def _upgrade_verdict(said: str, parts: list[str]) -> str:
    """What was said; of a deviation, what its parts come to without it."""
    return str(worst([Verdict(part) for part in parts])) if said == "deviation" else said


def _read_point(record: Mapping[str, Any]) -> PointVerdict:
    figures: dict[str, Any] = {
        name: Distance(value["max_abs"], value["rms"]) if isinstance(value, Mapping) else value
        for name, value in record.items()
    }
    if record["verdict"] == "deviation":  # noted only; where this is to decide, nothing has shown that it is the same
        return PointVerdict(record["point"], Verdict.FAILED, figures.get("difference"), reason=UNJUDGED)
    point = PointVerdict(**{**figures, "verdict": Verdict(record["verdict"])})
    if point.verdict is Verdict.EXACT and (point.difference != NO_DIFFERENCE or point.original_error or point.reason):
        raise ValueError(f"{point.point} is exact, and its difference is not")
    return point
