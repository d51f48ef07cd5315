"""The verification card beside a converted model, ``parity.json``: where it is from, every verdict, every figure."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conversion.artifact.card_points import COLUMNS, record_distances, record_points, round_point
from conversion.artifact.versions import read_versions
from conversion.families.base import load_family
from conversion.intake.checkpoint import Checkpoint
from conversion.intake.steps import Step
from conversion.parity.metrics import Likeness
from conversion.parity.verdict import PointVerdict, Verdict, worst
from conversion.parity.verify import InputVerdict, find_error_ratio
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.restore import find_majors

SCHEMA = "parity-card/3"
"""What is written; described by ``parity_card.schema.json``."""

NOT_COMPARED = "not compared"
"""The verdict of an artifact whose activations nobody has compared."""

LINE = 100
"""Characters of a line of JSON that is not broken."""

HASHED_AT_ONCE = 2**22
"""Bytes, for which Python's lock is let go: files are hashed beside what goes on meanwhile."""


@dataclass(frozen=True)
class SourceFile:
    """A checkpoint file, as it was read."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A checkpoint: its files, and what intake did to get at the state dict in them."""

    files: tuple[SourceFile, ...]
    intake: tuple[Step, ...]


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from.

    Attributes:
        weights: ``"synthetic"``, ``"pretrained"`` (the official download), ``"checkpoint"`` (a file of the user's) or
            ``"unknown"`` (a state dict in memory).
        seed: of synthetic weights.
        checkpoints: role to what was read.
    """

    weights: str = "unknown"
    seed: int | None = None
    checkpoints: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixVerdict:
    """The verdict of one cell of the matrix, with all its inputs.

    Attributes:
        seed: of their noise.
        original: whose code the converted model was compared with.
        exported: of an export, what a card says of it beside its verdict; None of an attention implementation.
    """

    device: str
    dtype: str
    attention: str
    seed: int
    inputs: tuple[InputVerdict, ...]
    original: str = "bundled"
    exported: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the inputs'."""
        return worst([result.verdict for result in self.inputs])


def describe_source(checkpoint: Checkpoint) -> Source:
    """Name, size and hash of a checkpoint's files, and what intake did."""
    return _describe_files(checkpoint.files, checkpoint.steps)


def find_provenance(conversion: Conversion, given: Provenance | None = None) -> tuple[Provenance, list[Path]]:
    """Where the weights of a conversion come from: hashes the files that its state dict was read from.

    A state dict that was made in memory has no source. Nor has one whose files were changed since they were read.

    Args:
        given: what is known of it already; then nothing is hashed.

    Returns:
        the source, and the files that were changed, or are gone.
    """
    if given is not None:
        return given, []
    origins = conversion.origins
    try:
        sources = {
            role: _describe_files(tuple(origin.files), tuple(Step(*step) for step in origin.steps))
            for role, origin in origins.items()
        }
        # only now: a file may change while it is hashed, too
        states = {path: path.stat() for origin in origins.values() for path in origin.files}
    except OSError as error:
        return Provenance(), [Path(str(error.filename))]
    read = {path: state for origin in origins.values() for path, state in origin.files.items()}
    changed = [path for path, state in states.items() if (state.st_size, state.st_mtime_ns) != read[path]]
    if changed or not origins:
        return Provenance(), changed
    return Provenance("checkpoint", None, sources), []


def _describe_files(paths: Iterable[Path], steps: tuple[Step, ...]) -> Source:
    return Source(tuple(SourceFile(path.name, path.stat().st_size, hash_file(path)) for path in paths), steps)


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(HASHED_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()


def build_parity_card(
    conversion: Conversion, provenance: Provenance, verdicts: tuple[MatrixVerdict, ...], result: Mapping[str, str]
) -> dict[str, Any]:
    """The content of ``parity.json``. Holds nothing that changes from run to run: no time, no path.

    Args:
        result: file name to SHA-256, of the files whose tensors were loaded back and compared.
    """
    family = load_family(conversion.family)
    compared = [cell for cell in verdicts if cell.exported is None]
    exports = [record_cell(cell) for cell in verdicts if cell.exported is not None]
    card = {
        "schema": SCHEMA,
        "variant": conversion.variant,
        "family": conversion.family,
        "architecture": conversion.architecture,
        "spec": asdict(conversion.spec),
        "baked_image_size": conversion.baked,
        "dtype": str(conversion.config.dtype).removeprefix("torch."),
        "layout": [f"transformers {major}" for major in find_majors(family, conversion.spec, conversion.state_dict)],
        "notes": list(conversion.notes),
        "told": {name: {"value": each.value, "by": each.by} for name, each in conversion.told.items()},
        "source": asdict(provenance),
        "result": dict(result),
        "versions": read_versions(),
        "keys": {
            **count_kinds(family.expand_key_map(conversion.spec).values()),
            "dropped": dict(conversion.dropped),
        },
        "tensors": {
            "compared": len(conversion.source),
            "kept_beside": sorted(conversion.left_out),
            "verdict": str(Verdict.EXACT),
            "how": "restored from the written file and compared with the source, bit for bit",
        },
        "loading_info": "empty",
        "columns": list(COLUMNS),
        "activations": [record_cell(cell) for cell in compared],
        "verdict": str(worst([cell.verdict for cell in compared])) if compared else NOT_COMPARED,
        **({"exports": exports} if exports else {}),
    }
    return card | {"digest": digest_of(card)}


def count_kinds(targets: Iterable[Sequence[str]]) -> dict[str, int]:
    """How many of the original's keys are renamed, and how many are split, by the target keys of each."""
    placed = [len(names) for names in targets if any(names)]
    return {"renamed": sum(count == 1 for count in placed), "split": sum(count > 1 for count in placed)}


def format_json(value: Any, indent: str = "") -> str:
    """JSON that a person can read and a diff can compare: a short value, or a row of figures, has a line of its own."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    is_list = isinstance(value, list | tuple)
    is_row = is_list and not any(isinstance(each, list | tuple | dict) for each in value)
    if is_row or not (is_list or isinstance(value, dict)) or len(indent) + len(line) <= LINE:
        return line
    inner = indent + " "
    if is_list:
        return "[\n" + ",\n".join(inner + format_json(each, inner) for each in value) + f"\n{indent}]"
    entries = (f"{inner}{json.dumps(name)}: {format_json(value[name], inner)}" for name in sorted(value))
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def digest_of(card: Mapping[str, Any]) -> str:
    """SHA-256, hexadecimal, of all that a card says but this: of its JSON, keys sorted, without spaces."""
    said = {name: value for name, value in card.items() if name != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def summarise_points(points: Iterable[PointVerdict]) -> dict[str, float | None]:
    """The figures at the worst capture point."""
    points = tuple(points)
    return {
        "max_abs": max((point.difference.max_abs for point in points if point.difference), default=None),
        "error_ratio": find_error_ratio(points),
    }


def record_cell(cell: MatrixVerdict) -> dict[str, Any]:
    """A cell of the matrix, as a card has it."""
    return {
        "device": cell.device,
        "dtype": cell.dtype,
        "attention": cell.attention,
        "input_seed": cell.seed,
        "original": cell.original,
        "verdict": str(cell.verdict),
        "inputs": [_record_input(result, cell.dtype) for result in cell.inputs],
        **({"exported": dict(cell.exported)} if cell.exported is not None else {}),
    }


def list_known(likeness: Likeness) -> list[float]:
    """The cosine, and of what decides, the part of equal decisions."""
    return [likeness.cosine] if likeness.top is None else [likeness.cosine, likeness.top]


def place_of(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    """Which cell of the matrix it is: device, dtype, attention."""
    return cell["device"], cell["dtype"], cell["attention"]


def list_cells(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All cells of the matrix that a card has: attention implementations, then exports."""
    return [*card["activations"], *card.get("exports", ())]


def _record_input(result: InputVerdict, dtype: str) -> dict[str, Any]:
    points = [round_point(point, dtype) for point in result.points]
    recorded: dict[str, Any] = {
        "input": result.name,
        "shape": list(result.shape),
        "masked": result.masked,
        "baked_twin": result.baked,
        "verdict": str(result.verdict),
        "deviation": result.deviation or None,
        **summarise_points(points),
        "points": record_points(points),
    }
    if result.aligned:
        recorded["aligned"] = True
    if result.likeness:
        recorded["likeness"] = {point: list_known(each) for point, each in result.likeness.items()}
    if result.otherwise:
        recorded["otherwise"] = record_distances(result.otherwise)
    return recorded
