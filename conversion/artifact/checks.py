"""Checks of an artifact's files: settings describe the original, tensors give it back, the card lists their hashes."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from conversion.artifact.card import SCHEMA, hash_file
from conversion.artifact.files import list_files
from conversion.artifact.safetensors_file import PIECE, view_bytes
from conversion.artifact.settings import find_settings_problems, name_deviation
from conversion.artifact.weights import read_tensors
from conversion.errors import ArtifactError, ConversionError
from conversion.exports.asked import is_exported, list_exported
from conversion.families.base import load_family
from conversion.mapping.tensors import fuse_rows
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import CONFIG, PARITY_CARD, read_config, read_left_out
from conversion.state_dicts.restore import list_parts

OTHERWISE = (
    "Write what is expected into the file, or convert the original again. If it was trained with other images, say so: "
    "--image-mean, --image-std, --crop-pct, --interpolation, --input-size."
)


def check_files(conversion: Conversion, directory: Path) -> None:
    """Check the settings and the tensors that were written of a conversion, and say what is wrong with both at once.

    Raises:
        ConversionError: as :func:`check_settings` and :func:`check_tensors`.
    """
    errors: list[ConversionError] = []
    for check in (partial(check_settings, labels=conversion.labels), check_tensors):
        try:
            check(conversion, directory)
        except ConversionError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        headline = " ".join(error.headline for error in errors)
        raise ArtifactError(headline, [line for error in errors for line in error.problems], errors[0].hint)


def check_settings(
    conversion: Conversion, directory: Path, *, labels: Sequence[str] = (), sizes: Mapping[int, str] | None = None
) -> None:
    """Check that what ``from_pretrained`` will build is what the original is made of, with no known deviation in it.

    Every field of ``config.json`` is compared, and every field of ``preprocessor_config.json`` where there is one.

    Args:
        labels: that its classes must have, in the order of the logits; any unless given.
        sizes: sides of the images that the image processor may make, in pixels, each with the reason; that of the
            conversion unless given.

    Raises:
        ArtifactError: a field says something else; with the remedy, where the deviation is known.
        CheckpointError: one of the files cannot be read.
    """
    family, spec = load_family(conversion.family), conversion.spec
    sizes = sizes or {conversion.input_size: "the size of this conversion"}
    problems = list(find_settings_problems(directory, family, spec, labels=labels, sizes=sizes))
    if problems:
        text = "\n".join(problems)
        remedies = [entry.remedy for entry in family.ledger if name_deviation(entry) in text]
        hint = " ".join(f"{remedy[0].upper()}{remedy[1:]}." for remedy in remedies)
        is_of_config = any(problem.startswith(CONFIG) for problem in problems)
        which = f"{CONFIG} describes another model" if is_of_config else f"a file beside {CONFIG} says otherwise"
        raise ArtifactError(
            f"{conversion.variant}: {which} than the original.",
            problems,
            hint or OTHERWISE,
        )


def check_tensors(conversion: Conversion, directory: Path) -> None:
    """Level 2 of the proof: what is in the files, restored, is the source bit for bit.

    Raises:
        ArtifactError: it is not; with every tensor that differs.
    """
    source = {**conversion.source, **conversion.left_out}
    problems, missing = [], dict.fromkeys(source)
    left_out = read_left_out(directory)
    beside = ((key, [tensor]) for key, tensor in left_out.items())
    for key, parts in chain(list_parts(read_tensors(directory), read_config(directory), left_out), beside):
        missing.pop(key, None)
        if key not in source:
            problems.append(f"{key}: only in the artifact")
        elif not is_made_of(source[key].cpu(), parts):
            restored = fuse_rows(parts)
            problems.append(
                f"{key}: source {tuple(source[key].shape)} {source[key].dtype}, restored {tuple(restored.shape)} "
                f"{restored.dtype}, not bit for bit equal"
            )
    problems += [f"{key}: only in the source" for key in missing]
    if problems:
        raise ArtifactError(f"{conversion.variant}: the artifact does not give the source back.", problems)


def is_made_of(whole: Tensor, parts: Sequence[Tensor]) -> bool:
    """Whether parts, one below the other, are a tensor in shape, dtype and every bit; nothing is put together."""
    if len(parts) == 1:
        return _is_equal(whole, parts[0])
    if whole.ndim == 0 or len(whole) != sum(map(len, parts)):
        return False
    return all(map(_is_equal, whole.split(list(map(len, parts))), parts))


def _is_equal(expected: Tensor, actual: Tensor) -> bool:
    """Whether shape, dtype and every bit agree. One thread compares: torch's would wait for those that hash files."""
    if (expected.shape, expected.dtype, expected.layout) != (actual.shape, actual.dtype, actual.layout):
        return False
    left, right = view_bytes(expected), view_bytes(actual)
    pieces = range(0, len(left), PIECE)
    return all(np.array_equal(left[start : start + PIECE], right[start : start + PIECE]) for start in pieces)


def check_card(directory: str | Path) -> None:
    """Check that an artifact's files are those that its verification card speaks of.

    Raises:
        ArtifactError: one is another, or is gone; or there is no such card.
    """
    directory = Path(directory)
    card = find_card(directory)
    if card is None:
        raise ArtifactError(f"{directory}: has no {PARITY_CARD} of this project.", hint="Convert the checkpoint again.")
    result, loaded = card.get("result"), {**list_files(directory), **list_exported(directory)}
    if not isinstance(result, dict):
        raise ArtifactError(
            f"{directory / PARITY_CARD}: its result is a JSON {type(result).__name__}, not a table of files.",
            hint="Convert the checkpoint again.",
        )
    result = result | {name: digest for cell in card.get("exports", ()) for name, digest in _list_written(cell)}
    problems = [f"{name}: the card says nothing of it" for name in loaded if name not in result]
    for name in result:
        is_elsewhere = Path(name).name != name and not is_exported(name)
        if name not in loaded and (is_elsewhere or (directory / name).is_file()):
            problems.append(f"{name}: the card lists it, and no model is loaded from it")
            continue
        path = loaded.get(name, directory / name)
        found = f"SHA-256 {hash_file(path)}" if path.is_file() else "not there"
        if found != f"SHA-256 {result[name]}":
            problems.append(f"{name}: {found}, in the card SHA-256 {result[name]}")
    if problems:
        raise ArtifactError(
            f"{directory}: its files are not those that {PARITY_CARD} lists.",
            problems,
            hint="Convert the checkpoint again.",
        )


def _list_written(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The files of an export with their SHA-256, by a card that need not follow its schema."""
    exported = cell.get("exported") if isinstance(cell, dict) else None
    files = exported.get("files") if isinstance(exported, dict) else None
    return list(files.items()) if isinstance(files, dict) else []


def find_card(directory: Path) -> dict[str, Any] | None:
    """The content of a verification card of this project, of any version, if there is one."""
    try:
        card = json.loads((directory / PARITY_CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(card, dict) and str(card.get("schema")).startswith(SCHEMA.rpartition("/")[0] + "/")
    return card if is_ours else None
