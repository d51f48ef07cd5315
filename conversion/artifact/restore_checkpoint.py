"""An artifact written back as the original's own checkpoint, which the original code loads whole."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from conversion.errors import CheckpointError, concerning
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.transformers_folder import demand_transformers_folder
from conversion.state_dicts.convert import HEAD_PREFIX
from conversion.state_dicts.folder import read_config
from conversion.state_dicts.restore import describe_gone, find_family


def restore_checkpoint(directory: str | Path, path: str | Path) -> list[Path]:
    """Write an artifact back as the original's own checkpoint, which the original code loads whole.

    Args:
        directory: that ``from_pretrained`` reads; its weights file, or its shards.
        path: of the file to write, in the format and the containers of the original. A linear head goes into a file
            of its own beside it, as the authors publish theirs: ``<name>_linear_head.pth``.

    Returns:
        the files written. A warning names what of the original is not in the folder: that is not in them either.

    Raises:
        CheckpointError: the folder cannot be read, or a file is there already. Nothing is left half written.
    """
    directory, path = Path(directory), Path(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: the original's own format is torch.save's.", hint="Name it .pth.")
    with concerning(directory):
        demand_transformers_folder(directory)
    checkpoint = read_checkpoint(directory)
    state_dict = dict(checkpoint.state_dict)
    with concerning(directory):
        config = read_config(directory)
        family = find_family(config)
        spec = family.read_config(config)
    head = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(HEAD_PREFIX)}
    entry = family.entry(spec)
    contents: dict[Path, object] = {path: {entry: state_dict} if entry else state_dict}
    if head:
        contents[path.with_name(f"{path.stem}_{HEAD_PREFIX[:-1]}{path.suffix}")] = {
            key.removeprefix(HEAD_PREFIX): tensor for key, tensor in head.items()
        }
    present = [str(file) for file in contents if os.path.lexists(file)]
    if present:
        raise CheckpointError(f"{path}: exists already; it is not overwritten.", present, "Choose another name.")
    _write_all(contents)
    if gone := describe_gone(family, family.original_shapes(spec), checkpoint.state_dict):
        warnings.warn(f"{path}: {gone}.", stacklevel=2)
    return list(contents)


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
        raise CheckpointError(f"{next(iter(contents))}: cannot be written: {error}", hint=hint) from error
    finally:
        for partial in written.values():
            partial.unlink(missing_ok=True)
