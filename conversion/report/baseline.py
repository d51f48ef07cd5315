"""Verdicts and figures in short, which later runs are held against: taken from what runs recorded, or from a file.

The file has a record for each kind of processor, since what is exact depends on how a processor rounds. Its schema is
``parity_verdicts.schema.json``; the one in ``fixtures/verdicts.json`` is that of this project.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conversion.artifact.card import format_json, list_cells
from conversion.artifact.card_points import read_points
from conversion.artifact.files import write_whole
from conversion.artifact.schemas import check_schema
from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.intake.folder_files import SUFFIXES_OF_WEIGHTS
from conversion.parity.deviations import split_names
from conversion.parity.verdict import Verdict, worst
from conversion.report.records import NOT_RUN, Record, Result, read_error

SCHEMA = "parity-verdicts/2"
RECORD = Path(__file__).parents[2] / "fixtures" / "verdicts.json"
DIGITS = 3
"""Significant ones that an error ratio is held against another with, and recorded with."""

UNKNOWN = ""
"""The kind of processor, and the weights, of a test that failed before it compared anything."""

EITHER = " or "
"""Between versions, where the machines of a run had several."""


@dataclass(frozen=True)
class InputResult:
    """What the comparison on one input came to.

    Attributes:
        error_ratio: the largest RMS error at a capture point, as a multiple of the original's own; 1 where exact.
        otherwise: names of what transformers does otherwise on this input.
        elements: of the tensor at that capture point; None where all is exact, and where it was read from a file.
    """

    verdict: Verdict
    error_ratio: float
    otherwise: tuple[str, ...] = ()
    elements: int | None = field(default=None, compare=False)


@dataclass(frozen=True, order=True)
class Model:
    """Which model was compared: a variant, whole or shortened, with certain weights.

    Attributes:
        blocks: how many were run; 0 where nothing was compared.
        image_size: its native one, in pixels.
        source: where its weights come from.
    """

    variant: str
    blocks: int
    image_size: int
    source: str


@dataclass(frozen=True)
class Cell:
    """What one cell of the matrix came to on one kind of processor.

    Attributes:
        processor: its kind; :data:`UNKNOWN` where nothing was compared.
        place: device, dtype and attention implementation, joined by slashes.
        versions: of what it was run with.
        weights: file of the converted weights to its SHA-256.
        inputs: name to result.
        failure: why the test failed, if no input says so; else empty.
    """

    processor: str
    model: Model
    place: str
    versions: Mapping[str, str]
    weights: Mapping[str, str]
    inputs: Mapping[str, InputResult]
    failure: str = ""

    @property
    def key(self) -> tuple[str, Model, str]:
        """What no two cells of a run have in common."""
        return self.processor, self.model, self.place


def collect_cells(record: Record) -> tuple[Cell, ...]:
    """Everything that was run, each cell once.

    Raises:
        ArtifactError: a cell was recorded twice, and the two are not the same.
    """
    cells: dict[tuple[str, Model, str], Cell] = {}
    problems = []
    for cell in (build_cell(result) for result in record.results if result.message != NOT_RUN):
        other = cells.setdefault(cell.key, cell)
        if (other.inputs, other.weights, other.failure) != (cell.inputs, cell.weights, cell.failure):
            problems.append(f"{cell.model.variant}, {cell.place}, {cell.processor or 'not compared'}")
    if problems:
        hint = "Put what was run separately into folders of their own, and compare these."
        raise ArtifactError("There are two results of the same cell, which differ.", dict.fromkeys(problems), hint)
    return tuple(cells.values())


def build_cell(result: Result) -> Cell:
    """What one result of a run comes to, in short."""
    device = result.device.partition(":")[0]  # any GPU of a machine stands for all
    place = f"{device}/{result.dtype}/{result.attention}"
    card, failure = result.card, ""
    if result.verdict is Verdict.FAILED and all(each["verdict"] != Verdict.FAILED for each in result.inputs):
        failure = read_error(result.message) or "nothing was compared"
    if card is None:
        return Cell(UNKNOWN, Model(result.variant, 0, 0, UNKNOWN), place, {}, {}, {}, failure)
    seed = str(list_cells(card)[0]["input_seed"])
    versions = {**card["versions"], "original": result.original, "input seed": seed}
    model = Model(result.variant, card["spec"]["depth"], card["spec"]["image_size"], name_source(card))
    weights = {name: sha256 for name, sha256 in card["result"].items() if Path(name).suffix in SUFFIXES_OF_WEIGHTS}
    inputs = {each["input"]: _read_input(each, result.dtype) for each in result.inputs}
    return Cell(name_processor(device, card["versions"]), model, place, versions, weights, inputs, failure)


def name_processor(device: str, versions: Mapping[str, str]) -> str:
    """The kind of processor: the GPU by its name; of a CPU, the instructions that torch uses."""
    gpu = versions.get("cuda", "").partition(" on ")[2]
    return gpu if device == "cuda" and gpu else versions["cpu"]


def name_source(card: Mapping[str, Any]) -> str:
    """Where the weights come from, in words that do not change, since files of verdicts are found again by them.

    Drawn weights are named by their seed: they are written by torch, whose files differ by version.
    """
    source = card["source"]
    files = [file for each in source["checkpoints"].values() for file in each["files"]]
    read = [f"{file['name']} (SHA-256 {file['sha256'][:12]})" for file in files]
    baked = [f"baked for {card['baked_image_size']}"] if card["baked_image_size"] else []
    is_drawn = source["weights"] == "synthetic"
    return ", ".join([source["weights"], *([f"seed {source['seed']}"] if is_drawn else read), *baked])


def _read_input(recorded: Mapping[str, Any], dtype: str) -> InputResult:
    points = [point for point in read_points(recorded["points"], dtype) if point.converted_error]
    elements = max(points, key=lambda point: point.error_ratio or 0.0).elements if points else None
    otherwise = tuple(sorted(split_names(recorded["deviation"])))
    return InputResult(Verdict(recorded["verdict"]), round_ratio(recorded["error_ratio"]), otherwise, elements)


def round_ratio(ratio: float) -> float:
    """An error ratio as it is recorded."""
    return float(f"{ratio:.{DIGITS}g}")


def is_baseline(path: Path) -> bool:
    """Whether a file holds verdicts in short, of whatever version."""
    try:
        return path.is_file() and str(json.loads(path.read_bytes())["schema"]).startswith("parity-verdicts/")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read_baseline(path: Path) -> tuple[Cell, ...]:
    """The cells of a file of recorded verdicts.

    Raises:
        ArtifactError: it cannot be read, or is of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    check_schema(content, "parity_verdicts", path, f"file of verdicts by {SCHEMA}")
    return tuple(
        Cell(kind, _read_model(model), place, record["versions"], model["weights"], _read_inputs(inputs))
        for kind, record in content["processors"].items()
        for model in record["models"]
        for place, inputs in model["cells"].items()
    )


def _read_model(content: Mapping[str, Any]) -> Model:
    return Model(*(content[name] for name in Model.__dataclass_fields__))


def _read_inputs(content: Mapping[str, Any]) -> dict[str, InputResult]:
    return {
        name: InputResult(Verdict(each["verdict"]), each["error_ratio"], tuple(each["otherwise"]))
        for name, each in content.items()
    }


def write_baseline(path: Path, cells: Iterable[Cell]) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """Put cells on record, in the place of all that is there of the same kinds of processor; others are kept.

    A cell that came to no verdict, or whose test failed in spite of its verdicts, is left out.

    Returns:
        what was put on record, and what of an earlier record was dropped with nothing in its place.

    Raises:
        ArtifactError: what is there is no file of recorded verdicts, or there is nothing to put on record.
    """
    earlier = read_baseline(path) if path.exists() else ()
    written = tuple(cell for cell in cells if cell.inputs and not cell.failure)
    if not written:
        raise ArtifactError(f"{path}: there is nothing to put on record: no test came to a verdict.")
    kinds = {cell.processor for cell in written}
    kept = tuple(cell for cell in earlier if cell.processor not in kinds)
    write_whole(path, format_baseline((*kept, *written)))
    keys = {cell.key for cell in (*kept, *written)}
    return written, tuple(cell for cell in earlier if cell.key not in keys)


def format_baseline(cells: Sequence[Cell]) -> str:
    """The text of a file of recorded verdicts."""
    kinds = sorted({cell.processor for cell in cells})
    records = {kind: _format_record([cell for cell in cells if cell.processor == kind]) for kind in kinds}
    return format_json({"schema": SCHEMA, "processors": records}) + "\n"


def _format_record(cells: Sequence[Cell]) -> dict[str, Any]:
    models: dict[Model, dict[str, Any]] = {}
    for cell in sorted(cells, key=lambda cell: cell.key):
        model = models.setdefault(cell.model, {**asdict(cell.model), "weights": {}, "cells": {}})
        model["weights"] |= cell.weights
        model["cells"][cell.place] = {name: _format_input(each) for name, each in cell.inputs.items()}
    return {"versions": combine_versions(cells), "models": list(models.values())}


def _format_input(result: InputResult) -> dict[str, Any]:
    return {"verdict": str(result.verdict), "error_ratio": result.error_ratio, "otherwise": list(result.otherwise)}


def combine_versions(cells: Iterable[Cell]) -> dict[str, str]:
    """The versions of all cells, several where they differ."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for name, version in cell.versions.items():
            found.setdefault(name, set()).update(version.split(EITHER))
    return {name: EITHER.join(sorted(versions)) for name, versions in sorted(found.items())}


def was_exact(variant: str, family: str, place: str, processor: str) -> bool:
    """Whether a cell of a variant is on record as exact on this kind of processor, on every input.

    A shortened variant stands for the whole one. Of a model that is no official variant, whether it is so for all those
    of its family that are on record.
    """
    if not RECORD.exists():  # as where the package alone is installed
        return False
    names = [variant] if variant in VARIANTS else [name for name, row in VARIANTS.items() if row.family == family]
    recorded = [cell for cell in read_baseline(RECORD) if cell.processor == processor and cell.model.variant in names]
    found = {cell.model: Verdict.FAILED for cell in recorded}
    found |= {
        cell.model: worst([each.verdict for each in cell.inputs.values()]) for cell in recorded if cell.place == place
    }
    return bool(found) and set(found.values()) == {Verdict.EXACT}
