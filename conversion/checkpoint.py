"""Intake: from a file to a clean original state dict, in small steps. Nothing that a file holds is ever executed."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.family import families
from conversion.key_map import find_reason

ENTRIES = ("teacher", "model", "state_dict", "module")
"""Entries that hold the model in a training run's checkpoint, in the order in which they are looked for."""

PREFIXES = ("module.", "_orig_mod.", "backbone.")
"""What wrappers put before every key: DistributedDataParallel, torch.compile, training codes. Where only some keys
have it, it stays: a backbone with heads beside it."""

CHUNKED_BLOCK = re.compile(r"^blocks\.(\d+)\.(\d+)\.")
"""``blocks.<chunk>.<block>.``, as written with ``block_chunks > 0``; the block's index counts through all chunks."""


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint file as an original state dict.

    Tensors of ``.pth`` and ``.pt`` files are memory-mapped where the format allows it: they are read when used, and
    the file must stay in place for as long.

    Args:
        path: a ``torch.save`` file, or ``.safetensors``.

    Returns:
        original key to tensor, wrappers, prefixes and chunks undone.

    Raises:
        CheckpointError: the file is absent, empty, truncated, of another format, needs code to be run, or holds no
            state dict. The file is named.
    """
    path = Path(path)
    return unchunk_blocks(strip_prefixes(unwrap(open_checkpoint(path), path), path), path)


def open_checkpoint(path: Path) -> Any:
    """Open a file safely, and return what it holds: tensors in whatever containers they were saved in.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: there is no such file, or it cannot be looked at ({error}).") from error
    if not path.is_file():
        raise CheckpointError(f"{path}: not a file.", hint="Give the checkpoint file itself.")
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty.", hint="Download or copy it again.")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is not a checkpoint.",
            [_first_sentence(error)],
            hint="Only tensors in plain containers are read; foreign classes are never run. Save the state dict alone.",
        ) from error
    except Exception as error:  # torch and safetensors raise nearly everything on damaged bytes
        raise CheckpointError(
            f"{path}: cannot be read; truncated, damaged, or not a checkpoint.",
            [f"{type(error).__name__}: {_first_sentence(error)}"],
            hint=f"The file has {size} bytes; compare with its source, and download or copy it again.",
        ) from error


def unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Take the state dict out of a training run's checkpoint: ``{"teacher": {...}}``, ``{"model": {...}}``.

    Raises:
        CheckpointError: there is no state dict in it, or one with values that are not tensors.
    """
    entries: list[str] = []
    while isinstance(content, Mapping) and (entry := _find_entry(content)):
        entries.append(entry)
        content = content[entry]
    where = "".join(f"[{entry!r}]" for entry in entries)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}{where}: holds no state dict, but {_describe(content)}.")
    problems = [f"{key!r}: {_describe(value)}" for key, value in content.items() if not _is_tensor(key, value)]
    if problems:
        raise CheckpointError(
            f"{path}{where}: not a state dict, {len(problems)} of {len(content)} entries are not tensors.",
            problems,
            hint=f"A checkpoint may hold its state dict under one of: {', '.join(ENTRIES)}.",
        )
    return dict(content)


def strip_prefixes(state_dict: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take away wrappers' prefixes, each only where every key that is to be converted carries it.

    Raises:
        CheckpointError: two keys become one.
    """
    renamed = {key: key for key in state_dict}
    while prefix := next((prefix for prefix in PREFIXES if _all_carry(renamed.values(), prefix)), None):
        renamed = {key: name.removeprefix(prefix) for key, name in renamed.items()}
    return _rename(state_dict, renamed, path, "without their prefixes")


def unchunk_blocks(state_dict: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Turn ``blocks.<chunk>.<block>.`` into ``blocks.<block>.``.

    Raises:
        CheckpointError: two keys become one.
    """
    renamed = {key: CHUNKED_BLOCK.sub(r"blocks.\2.", key) for key in state_dict}
    return _rename(state_dict, renamed, path, "with their blocks counted through")


def _read_torch(path: Path) -> Any:
    # files older than torch 1.6 are not zip archives and cannot be mapped
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _find_entry(content: Mapping[Any, Any]) -> str | None:
    return next((entry for entry in ENTRIES if isinstance(content.get(entry), Mapping)), None)


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _all_carry(names: Any, prefix: str) -> bool:
    dropped = {pattern: reason for family in families() for pattern, reason in family.dropped.items()}
    converted = [name for name in names if not find_reason(name, dropped)]
    return bool(converted) and all(name.startswith(prefix) for name in converted)


def _rename(state_dict: Mapping[str, Tensor], renamed: Mapping[str, str], path: Path, how: str) -> dict[str, Tensor]:
    sources: dict[str, list[str]] = {}
    for key, name in renamed.items():
        sources.setdefault(name, []).append(key)
    problems = [f"{name}: {' and '.join(keys)}" for name, keys in sources.items() if len(keys) > 1]
    if problems:
        raise CheckpointError(f"{path}: several keys are the same {how}.", problems)
    return {renamed[key]: tensor for key, tensor in state_dict.items()}


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        keys = ", ".join(map(repr, list(value)[:5]))
        return f"a mapping with the entries {keys}{', ...' if len(value) > 5 else ''}" if value else "an empty mapping"
    return f"a {type(value).__name__}"


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0][:300]
