"""What a report is made of: what runs have recorded, and cards of artifacts, gathered and brought together.

A run leaves its record beside its report. A verification card is a record, too: of what passed, without how long it
took, and without pictures.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conversion.card import SCHEMA as CARD_SCHEMA
from conversion.errors import ArtifactError, ConversionError
from conversion.family import load_family
from conversion.files import write_whole
from conversion.parity.verdict import Verdict
from conversion.schemas import demand_schema
from conversion.verification import find_contradictions, rebuild_spec

SCHEMA = "parity-run/1"

HINT = (
    "Give it folders with artifacts or records as this version writes them: parity.json, and what lies beside a report."
)


@dataclass(frozen=True)
class Picture:
    """What the original and the converted model make of the same photo.

    Attributes:
        title: of what it shows.
        panels: caption to PNG, in base64; original, converted, and their difference.
        text: what there is to see, in words.
        table: a row of headings, and rows.
    """

    title: str
    panels: Mapping[str, str]
    text: str
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Result:
    """What a test of a variant came to in one cell of the matrix.

    Attributes:
        seconds: it took; None where that is not known.
        message: why it failed; empty where it did not.
        card: of this cell alone; None where it did not come to a comparison.
    """

    variant: str
    device: str
    dtype: str
    attention: str
    seconds: float | None = None
    message: str = ""
    card: Mapping[str, Any] | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """As the card has it, unless the test failed for another reason."""
        return Verdict(self.card["verdict"]) if self.card and not self.message else Verdict.FAILED

    @property
    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Each input's verdict and figures."""
        return self.card["activations"][0]["inputs"] if self.card else ()


@dataclass(frozen=True)
class Record:
    """What was recorded, of one run or of several.

    Attributes:
        commands: that were run.
    """

    commands: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def write_record(record: Record, path: Path) -> None:
    """Write what was recorded, to be gathered with others."""
    content = {"schema": SCHEMA, **asdict(record)}
    write_whole(path, json.dumps(content) + "\n")


def gather(paths: Iterable[Path]) -> Record:
    """Everything recorded under these paths, once each.

    Args:
        paths: folders to look through, or files.

    Raises:
        ArtifactError: nothing was, or a record is damaged or contradicts itself; with every problem.
    """
    records, problems = [], []
    for path in dict.fromkeys(file for place in paths for file in _list_files(place)):
        try:
            records.append(read_record(path))
        except ArtifactError as error:
            problems += [error.headline, *(f"{path}: {problem}" for problem in error.problems)]
    if problems:
        raise ArtifactError("Not all of this can be reported.", problems, HINT)
    commands = dict.fromkeys(command for record in records for command in record.commands)
    results = _drop_repeated(result for record in records for result in record.results)
    if not results:
        raise ArtifactError("Nothing was recorded there.", hint=HINT)
    return Record(tuple(commands), results)


def _list_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path]


def read_record(path: Path) -> Record:
    """What one file records: nothing, if it is another file, as a model's config.

    Raises:
        ArtifactError: it is damaged, of another version, or contradicts itself.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == CARD_SCHEMA:
        return Record(results=tuple(_split_card(path, content)))
    if schema == SCHEMA:
        demand_schema(content, "parity_run", path, "record of a run")
        return Record(tuple(content["commands"]), tuple(_read_checked(path, each) for each in content["results"]))
    if isinstance(schema, str) and schema.startswith(("parity-card/", "parity-run/")):
        raise ArtifactError(f"{path}: its schema is {schema!r}, not {CARD_SCHEMA!r} or {SCHEMA!r}.")
    return Record()


def _read_checked(path: Path, content: Mapping[str, Any]) -> Result:
    if content["card"] is not None:
        _check_card(path, content["card"])
    return read_result(content)


def read_result(content: Mapping[str, Any]) -> Result:
    """A result, from plain values as JSON has them."""
    pictures = [Picture(**{**each, "table": tuple(map(tuple, each["table"]))}) for each in content["pictures"]]
    return Result(**{**content, "pictures": tuple(pictures)})


def _split_card(path: Path, card: Mapping[str, Any]) -> Iterator[Result]:
    """A result for each cell of an artifact's card."""
    _check_card(path, card)
    for cell in card["activations"]:
        of_cell = {**card, "activations": [cell], "verdict": cell["verdict"]}
        yield Result(card["variant"], cell["device"], cell["dtype"], cell["attention"], card=of_cell)


def _check_card(path: Path, card: Mapping[str, Any]) -> None:
    demand_schema(card, "parity_card", path, "verification card")
    try:
        family, spec = load_family(card["family"]), rebuild_spec(card)
    except (ImportError, AttributeError, TypeError, ConversionError) as error:
        raise ArtifactError(f"{path}: speaks of no model that is known: {error}") from error
    if problems := list(find_contradictions(card, family, spec)):
        raise ArtifactError(f"{path}: contradicts itself.", problems)


def _drop_repeated(results: Iterable[Result]) -> tuple[Result, ...]:
    """Each result once: one that an artifact's card tells, too, is the run's, which tells more."""
    told: dict[str, Result] = {}
    for result in results:
        content = {**asdict(result), "seconds": None, "pictures": ()}
        content["card"] = result.card and {**result.card, "digest": ""}
        identity = json.dumps(content, sort_keys=True)
        if identity not in told or told[identity].seconds is None:
            told[identity] = result
    return tuple(told.values())
