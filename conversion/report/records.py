"""What a report is made of: what runs have recorded, and cards of artifacts, gathered and brought together.

A run leaves its record beside its report. A verification card is a record, too: of what passed, without how long it
took, and without pictures.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from conversion.artifact.card import NOT_COMPARED, list_cells, place_of
from conversion.artifact.card import SCHEMA as CARD_SCHEMA
from conversion.artifact.checks import check_card
from conversion.artifact.files import write_whole
from conversion.artifact.reading import READABLE, modernise_card, rebuild_spec
from conversion.artifact.rounded import find_rounding
from conversion.artifact.schemas import check_schema
from conversion.artifact.verify import find_contradictions
from conversion.artifact.weights import is_published
from conversion.errors import ArtifactError, ConversionError
from conversion.exports.asked import find_export
from conversion.families.base import load_family
from conversion.families.external import BUNDLED
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import CONFIG, PARITY_CARD, parse_json

SCHEMA = "parity-run/1"

LOST_EXACTNESS = "exact was reached here before"
"""How the message of a test begins whose model is close, which is the same model, and was exact before."""

RANDOM = "random weights"
"""How the origin of weights begins that were drawn."""

ANY = "any"
"""The device, dtype and attention of a model of which no cell was reached."""

NOT_RUN = "This was not run: the run ended before."
"""The message of a test that was selected, and was not run."""

OF_EXTENT = {"depth", "image_size", "input_size", "out_indices"}
"""What a shortened variant has otherwise than the whole one, of its spec."""

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
        origin: where its weights come from, in a few words.
        seconds: it took; None where that is not known.
        message: why it failed; empty where it did not.
        card: of this cell alone; None where it did not come to a comparison.
    """

    variant: str
    device: str
    dtype: str
    attention: str
    origin: str
    seconds: float | None = None
    message: str = ""
    card: Mapping[str, Any] | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """As the card has it, unless the test failed for another reason than that it is close, and was exact before."""
        is_told = not self.message or self.message.startswith(LOST_EXACTNESS)
        return Verdict(list_cells(self.card)[0]["verdict"]) if self.card and is_told else Verdict.FAILED

    @property
    def is_export(self) -> bool:
        """Whether it is of an export, and not of the model by itself."""
        return find_export((self.device, self.dtype, self.attention)) is not None

    @property
    def original(self) -> str:
        """Whose code was the reference, as far as that is known."""
        return list_cells(self.card)[0]["original"] if self.card else BUNDLED

    @property
    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Each input's verdict and figures."""
        return list_cells(self.card)[0]["inputs"] if self.card else ()


@dataclass(frozen=True)
class Record:
    """What was recorded, of one run or of several.

    Attributes:
        commands: that were run.
    """

    commands: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def read_error(message: str) -> str:
    """The line of a failed test that says what went wrong: pytest marks it with an E; else the first line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if re.match(r"E\s", line)]
    return next(iter(marked or lines), "")


def write_record(record: Record, path: Path) -> None:
    """Write what was recorded, to be gathered with others."""
    content = {"schema": SCHEMA, **asdict(record)}
    write_whole(path, json.dumps(content) + "\n")


def gather(paths: Iterable[Path]) -> Record:
    """Everything recorded under these paths, once each.

    Args:
        paths: folders to look through, or files.

    Raises:
        ArtifactError: nothing was recorded at one of them, or a record is damaged, contradicts itself, is of what was
            not published, or of other files than lie beside it; with every problem.
    """
    records: dict[Path, Record] = {}
    problems = []
    for place in paths:
        found = 0
        for path in _list_files(place):
            try:
                if path not in records:
                    records[path] = read_record(path)
                found += len(records[path].results)
            except ArtifactError as error:
                problems += [error.headline, *(f"{path}: {problem}" for problem in error.problems)]
                found += 1
        if not found:
            problems.append(f"{place}: nothing was recorded there")
    if problems:
        raise ArtifactError("Not all of this can be reported.", problems, HINT)
    commands = dict.fromkeys(command for record in records.values() for command in record.commands)
    return Record(tuple(commands), _drop_repeated(result for record in records.values() for result in record.results))


def _list_files(path: Path) -> list[Path]:
    """Files that may be records; hidden folders are those of a run that is at work, or was killed."""
    if not path.is_dir():
        return [path.resolve()]
    found = (each for each in path.rglob("*.json") if not any(part[0] == "." for part in each.relative_to(path).parts))
    return sorted(each.resolve() for each in found if each.is_file())


def read_record(path: Path) -> Record:
    """What one file records: nothing, if it is another file, as a model's config.

    Raises:
        ArtifactError: it is damaged, of another version, contradicts itself, or lies with weights that are unpublished.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: there is no such file or folder.") from error
    except (OSError, UnicodeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    try:
        content = parse_json(text)
    except (ValueError, RecursionError) as error:
        if path.name != PARITY_CARD and not any(name in text for name in (*READABLE, SCHEMA)):
            return Record()
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    try:
        if schema in READABLE:
            if path.name == PARITY_CARD and (path.parent / CONFIG).exists():  # an artifact, not a card on its own
                check_card(path.parent)
            return Record(results=tuple(_split_card(path, content)))
        if schema == SCHEMA:
            check_schema(content, "parity_run", path, "record of a run")
            return Record(tuple(content["commands"]), tuple(_read_checked(path, each) for each in content["results"]))
    except ConversionError:
        raise
    except Exception as error:  # values of other types, sizes and lengths than a card has
        raise ArtifactError(f"{path}: describes no model that is known: {error!r}") from error
    if isinstance(schema, str) and schema.startswith(("parity-card/", "parity-run/")):
        raise ArtifactError(f"{path}: its schema is {schema!r}, not {CARD_SCHEMA!r} or {SCHEMA!r}.")
    return Record()


def _read_checked(path: Path, content: Mapping[str, Any]) -> Result:
    result = read_result(content)
    if result.card is None:
        return result
    result = replace(result, card=_check_card(path, result.card))
    assert result.card is not None
    cells = [place_of(cell) for cell in list_cells(result.card)]
    is_own = result.card["variant"] == result.variant or is_shortened(result.card, result.variant)
    if cells != [(result.device, result.dtype, result.attention)] or not is_own:
        raise ArtifactError(f"{path}: the card of {result.card['variant']}, {cells}, where another's should be.")
    return result


def is_shortened(card: Mapping[str, Any], variant: str) -> bool:
    """Whether a card is of an official variant with fewer blocks or as many, for images of whatever size.

    Such a card says of itself that it is of no official model.
    """
    row = VARIANTS.get(variant)
    if row is None or row.family != card["family"]:
        return False
    whole, found = (asdict(spec) for spec in (load_family(row.family).spec_of(row), rebuild_spec(card)))
    others = whole.keys() - OF_EXTENT
    return bool(found["depth"] <= whole["depth"]) and all(found[name] == whole[name] for name in others)


def read_result(content: Mapping[str, Any]) -> Result:
    """A result, from plain values as JSON has them."""
    pictures = [Picture(**{**each, "table": tuple(map(tuple, each["table"]))}) for each in content["pictures"]]
    return Result(**{**content, "pictures": tuple(pictures)})


def _split_card(path: Path, card: Mapping[str, Any]) -> Iterator[Result]:
    """A result for each cell of an artifact's card."""
    if not is_published(path.parent):
        raise ArtifactError(f"{path}: was not published: a run was killed here.")
    if card.get("verdict") == NOT_COMPARED:
        raise ArtifactError(f"{path}: its activations were never compared; vision-parity convert compares them.")
    card = _check_card(path, card)
    for cell in list_cells(card):
        of_cell = {name: value for name, value in card.items() if name not in ("activations", "exports", "verdict")}
        is_export = "exported" in cell
        of_cell |= {"activations": [] if is_export else [cell], **({"exports": [cell]} if is_export else {})}
        of_cell["verdict"] = NOT_COMPARED if is_export else cell["verdict"]
        place = place_of(cell)
        yield Result(card["variant"], *place, describe_origin(card), card=of_cell)


def _check_card(path: Path, card: Mapping[str, Any]) -> Mapping[str, Any]:
    """The card, of whatever version, as this one writes it."""
    card = modernise_card(card, path)
    if problems := list(find_contradictions(card, load_family(card["family"]), rebuild_spec(card))):
        raise ArtifactError(f"{path}: contradicts itself.", problems)
    return card


def describe_origin(card: Mapping[str, Any]) -> str:
    """Where a model's weights come from, in a few words."""
    source = card["source"]
    names = [file["name"] for checkpoint in source["checkpoints"].values() for file in checkpoint["files"]]
    origin = name_origin(source["weights"], source["seed"], names)
    _, dtype = find_rounding(card)
    rounded = f", rounded to {dtype}" if dtype else ""
    return origin + rounded + (f", baked for {card['baked_image_size']}" if card["baked_image_size"] else "")


def name_origin(weights: str, seed: int | None, files: Sequence[str]) -> str:
    """Where weights come from, by :class:`~conversion.artifact.card.Provenance`'s word for it."""
    described = {"synthetic": f"{RANDOM}, seed {seed}", "pretrained": "official weights"}
    return described.get(weights) or (files[0] if files else "a state dict")


def _drop_repeated(results: Iterable[Result]) -> tuple[Result, ...]:
    """Each result once: one that an artifact's card tells, too, is the run's, which tells more."""
    told: dict[str, Result] = {}
    for result in results:
        content = {**vars(result), "origin": "", "seconds": None, "pictures": ()}
        content["card"] = result.card and {**result.card, "digest": ""}
        identity = json.dumps(content, sort_keys=True)
        if identity not in told or told[identity].seconds is None:
            told[identity] = result
    return tuple(told.values())
