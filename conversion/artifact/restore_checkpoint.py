"""An artifact written back as the original's own checkpoint, which the original code loads whole."""

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conversion.artifact.checks import check_card
from conversion.artifact.reading import read_card, rebuild_spec
from conversion.artifact.verify import describe_other_family, describe_other_spec
from conversion.artifact.weights import AGAIN
from conversion.errors import ArtifactError, CheckpointError, ConversionError, ConversionWarning, concerning
from conversion.families.base import Family, Spec, load_family
from conversion.families.settings import option_of
from conversion.families.told import CALLER, Told, write_value
from conversion.intake.absence import check_any_there
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.transformers_folder import check_transformers_folder
from conversion.state_dicts.folder import PARITY_CARD, read_config, read_left_out
from conversion.state_dicts.recognise import recognise
from conversion.state_dicts.restore import find_family

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NOT_UNDONE = ("unwrap", "merge", "strip", "unchunk", "translate", "cast")
"""Steps of intake after which a checkpoint has other entries, keys or values than its file."""


def restore_checkpoint(directory: str | Path, path: str | Path) -> list[Path]:
    """Write an artifact back as the original's own checkpoint, which the original code loads whole.

    Args:
        directory: that ``from_pretrained`` reads; its weights file, or its shards.
        path: of the file to write, in the format and the containers of the original. A linear or depth head goes into
            a file of its own beside it, as the authors publish theirs: ``<name>_linear_head.pth``.

    Returns:
        the files written. A warning names what of the original is not in the folder: that is not in them either.

    Raises:
        CheckpointError: the folder cannot be read, or a file is there already. Nothing is left half written.
        ArtifactError: it has a verification card that cannot be read or describes another model, or its files are
            others.
    """
    directory, path = Path(directory), Path(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: the original's own format is torch.save's.", hint="Name it .pth.")
    check_any_there(directory)
    with concerning(directory):
        check_transformers_folder(directory)
    card = None
    if (directory / PARITY_CARD).exists():
        check_card(directory)
        card = read_card(directory)
    checkpoint = read_checkpoint(directory)
    state_dict = dict(checkpoint.state_dict)
    with concerning(directory):
        config = read_config(directory)
        family = find_family(config)
        spec = family.read_config(config)
    if card:  # what is restored is described by it, once it is written
        _check_described(directory, card, family, config)
    entry = family.training.choose_entry(spec)
    backbone, head = family.head.split(state_dict) if family.head else (state_dict, {})
    contents: dict[Path, object] = {path: {entry: backbone} if entry else backbone}
    if family.head and head:
        contents[path.with_name(f"{path.stem}_{family.head.role}{path.suffix}")] = family.head.pack(head)
    present = [str(file) for file in contents if os.path.lexists(file)]
    if present:
        raise CheckpointError(
            f"{present[0]}: exists already; it is not overwritten.", present[1:], "Choose another name."
        )
    if not path.absolute().parent.is_dir():
        raise CheckpointError(f"{path.parent}: there is no such folder.", hint="Make it first.")
    _write_all(contents)
    if checkpoint.gone:
        warnings.warn(f"{path}: {checkpoint.gone}.", ConversionWarning, stacklevel=2)
    return list(contents)


def _check_described(directory: Path, card: Mapping[str, Any], family: Family[Any], config: "PretrainedConfig") -> None:
    """Check that a card describes the model of a config."""
    other = describe_other_family(card, family)
    other = other or describe_other_spec(card, family.read_spec(config, rebuild_spec(card)))
    if other:
        raise ArtifactError(f"{directory}: {other}.", hint=AGAIN)


def describe_restored(directory: Path) -> list[str]:
    """What the checkpoint that was converted has otherwise than what is restored from an artifact, a line each.

    A folder without a verification card does not tell.
    """
    if not (directory / PARITY_CARD).exists():
        return []
    card = read_card(directory)
    size, kept = card["baked_image_size"], set(read_left_out(directory))
    lines = [f"position embeddings: resampled for {size} x {size} pixels, as in the folder"] if size else []
    entries = _list_entries(load_family(card["family"]), rebuild_spec(card))
    for role, each in card["source"]["checkpoints"].items():
        undone = f"entry ['{entries.get(role)}'] taken"
        steps = [step for step in each["intake"] if step["name"] in NOT_UNDONE and step["did"] != undone]
        lines += [f"{step['name']}: {step['did']}; this is not undone" for step in steps]
    lines += [f"left out: {key}: {reason}" for key, reason in card["keys"]["dropped"].items() if key not in kept]
    untold = " ".join(_list_untold(card))
    return lines + [f"told beside it: {untold}; to convert the file, give these again"] * bool(untold)


def _list_untold(card: Mapping[str, Any]) -> Iterator[str]:
    """The options for what was told, if the restored file alone would be taken for another model."""
    told = card.get("told", {})
    tensors = load_family(card["family"]).original_tensors(rebuild_spec(card))
    alone = _tell_alone(tensors, {name: each["value"] for name, each in told.items() if each["by"] == CALLER})
    for name, each in told.items():
        value = write_value(each["value"])
        if name not in alone or write_value(alone[name].value) != value:
            yield f"{option_of(name)} {value}"


def _tell_alone(tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Told]:
    """What official models and the writer's code tell of a state dict; of one that needs it, beside what is given."""
    for settings in ({}, given):
        try:
            told = recognise(dict(tensors), **settings).told
        except ConversionError:
            continue
        return {name: each for name, each in told.items() if name not in settings}
    return {}


def _list_entries(family: Family[Any], spec: Spec) -> dict[str, str]:
    """The entries that restored files have their tensors in, by their roles; empty where these are the file's own."""
    head = {family.head.role: family.head.entry} if family.head else {}
    return {"checkpoint": family.training.choose_entry(spec), **head}


def _write_all(contents: Mapping[Path, object]) -> None:
    """Write files of ``torch.save``, all or none."""
    written = {file: file.with_name(f".{file.name}.partial") for file in contents}
    try:
        for file, partial in written.items():
            torch.save(contents[file], partial)
        for file, partial in written.items():
            partial.rename(file)
    except (OSError, RuntimeError, ValueError) as error:  # torch raises the second where the disk is full
        for file in written:
            file.unlink(missing_ok=True)
        hint = "Nothing was left behind. Check free space and permissions."
        reason = error if isinstance(error, OSError) else "torch.save came to no end, as on a full disk"
        raise CheckpointError(f"{next(iter(contents))}: cannot be written: {reason}.", hint=hint) from error
    finally:
        for partial in written.values():
            partial.unlink(missing_ok=True)
