"""A folder of torch.distributed.checkpoint, read selectively: one model's tensors alone, chosen by name beforehand."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.base import find_dropped
from conversion.families.linear_head import are_heads
from conversion.intake.dcp_metadata import (
    AGAIN,
    METADATA,
    Chunk,
    Entry,
    Metadata,
    list_problems,
    list_shared_bytes,
    read_metadata,
)
from conversion.intake.entries import ENTRIES, STATES
from conversion.intake.opening import open_saved_tensor
from conversion.intake.prefixes import select_model
from conversion.intake.steps import HEADS, check_values, strip_prefixes, take_off_prefixes
from conversion.intake.unwrapping import MAX_LISTED, Unwrapped, unwrap
from conversion.mapping.key_map import StateDict
from conversion.state_dicts.recognise import recognise_shapes

CONTAINERS = frozenset({*ENTRIES, *STATES, "app", "lr_scheduler"})
"""What keys begin with where the metadata does not tell which entries they lie in; ``app`` is torch's own example."""

LARGEST_HEADER = 100 * 2**20
"""Bytes of a safetensors header, as that library allows."""


@dataclass(frozen=True)
class Distributed:
    """What was read of a folder.

    Attributes:
        state_dict: all that lies where the model does. What is no part of it was not read, and is on the meta device,
            so that later steps of intake say of it what they say of any file.
        files: that were read.
        opened: what was read of how much, in a line.
        choice: what was taken and what was left, in a line; empty where all was taken.
        taken: where it lay, with tensors that have no values.
    """

    state_dict: dict[str, Tensor]
    files: tuple[Path, ...]
    opened: str
    choice: str
    taken: Unwrapped


def read_distributed(folder: Path, entry: str | None) -> Distributed:
    """Read a model's tensors from a folder of torch.distributed.checkpoint; nothing in it is run.

    Which entry is taken, and which tensors are needed, is decided by the names and shapes in the metadata. Optimizer
    state and heads of training losses are not read.

    Args:
        entry: the one to take, as for :func:`unwrap`.

    Raises:
        CheckpointError: there is no model in it, or its files do not hold what the metadata says.
    """
    metadata = read_metadata(folder)
    keys, content = _nest(metadata)
    is_reached = entry and entry.partition(".")[0] in content
    content, path, left = (content, [], []) if is_reached else _descend(content)
    taken = unwrap(content, entry)
    held, unread = _split_read(taken.state_dict)
    wanted = _select(held, taken.path)
    entries = {keys[id(tensor)]: metadata.tensors[keys[id(tensor)]] for tensor in wanted}
    problems = [problem for key, each in entries.items() for problem in list_problems(folder, key, each)]
    problems = problems or list_shared_bytes(folder, entries)
    if any(chunk.transforms for each in entries.values() for chunk in each.chunks):
        raise CheckpointError("its files are written through extensions.", problems, "Save it again without them.")
    if problems:
        raise CheckpointError(f"its files do not hold what its {METADATA} says.", problems, AGAIN)
    tensors = read_tensors(folder, entries)
    files = sorted({folder / chunk.file for each in entries.values() for chunk in each.chunks})
    return Distributed(
        {name: tensors.get(keys[id(tensor)], tensor) for name, tensor in held.items()},
        (folder / METADATA, *files),
        _describe_size(entries.values(), metadata, len(files)),
        _describe_choice(taken, path, left, unread),
        taken,
    )


def check_read(state_dict: StateDict) -> None:
    """Refuse what is no known model: it was not read, and has no values.

    Args:
        state_dict: what intake made of one that :func:`read_distributed` gave.

    Raises:
        CheckpointError: saying what it is, or is not.
    """
    if any(tensor.is_meta for tensor in state_dict.values()):
        recognise_shapes(state_dict)
    check_values(state_dict)


def _nest(metadata: Metadata) -> tuple[dict[int, str], dict[Any, Any]]:
    """The entries of a folder in each other, with tensors that take no memory, and the key of each of these."""
    keys: dict[int, str] = {}
    content: dict[Any, Any] = {}
    for key in (*metadata.tensors, *metadata.others):
        value = None
        if key in metadata.tensors:
            value = torch.empty(metadata.tensors[key].shape, dtype=metadata.tensors[key].dtype, device="meta")
            keys[id(value)] = key
        *leading, last = metadata.paths.get(key) or _guess_path(key)
        inner = content
        for name in leading:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise CheckpointError(f"{METADATA}: {key} lies in another tensor.", hint=AGAIN)
        if last in inner:
            raise CheckpointError(f"{METADATA}: several keys lead to the same place.", [key], AGAIN)
        inner[last] = value
    return keys, content


def _guess_path(key: str) -> tuple[str, ...]:
    """The entries that a flat key lies in, by the names that entries have."""
    path: list[str] = []
    while "." in key and key.partition(".")[0] in CONTAINERS:
        first, _, key = key.partition(".")
        path.append(first)
    return *path, key


def _descend(content: dict[Any, Any]) -> tuple[dict[Any, Any], list[str], list[str]]:
    """Go into the one entry that a run's whole state was saved under, as ``app``, and leave what lies beside tensors.

    Returns:
        what is in it, the entries that lead there, and those that were left on the way.
    """
    path: list[str] = []
    left: list[str] = []
    while not any(isinstance(value, Tensor) or key in ENTRIES for key, value in content.items()):
        inner = [key for key, value in content.items() if isinstance(value, dict) and CONTAINERS & value.keys()]
        if len(inner) != 1:
            return content, path, left
        left += [str(key) for key in content if key != inner[0]]
        path.append(str(inner[0]))
        content = content[inner[0]]
    # a model whose tensors lie beside an entry for the optimizer
    if not any(isinstance(content.get(entry), dict) for entry in ENTRIES):
        left += [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
        content = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return content, path, left


def _split_read(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that may be a model's, and the keys of others with the reason why they are dropped anyway."""
    names, _ = take_off_prefixes(state_dict, lambda name: find_dropped(name) or name.startswith(HEADS))
    unread = {key: reason for key, name in names.items() if (reason := find_dropped(name))}
    return {key: tensor for key, tensor in state_dict.items() if key not in unread}, unread


def _select(held: StateDict, path: Sequence[str]) -> list[Tensor]:
    """The tensors to read: those of the one model that is taken, and those that it is compared with before that.

    Linear heads are read whole: they go with another file's model. Of what is nothing that is known, nothing is read.

    Args:
        path: the entries that lead to what is held.

    Raises:
        CheckpointError: as :func:`select_model`, which decides again when there are values.
    """
    named, _ = strip_prefixes(held, find_dropped)
    selected = select_model(named, path)
    if not selected.is_recognised and not are_heads(named):
        return []
    return [*selected.state_dict.values(), *selected.compared.values()]


def _describe_size(entries: Iterable[Entry], metadata: Metadata, num_files: int) -> str:
    entries = tuple(entries)
    read, whole = sum(entry.nbytes for entry in entries), sum(entry.nbytes for entry in metadata.tensors.values())
    return (
        f"torch.distributed.checkpoint, read selectively: {len(entries)} of {len(metadata.tensors)} tensors, "
        f"{read / 1e6:,.1f} of {whole / 1e6:,.1f} MB, from {num_files} file(s)"
    )


def _describe_choice(taken: Unwrapped, path: Sequence[str], left: Sequence[str], unread: Mapping[str, str]) -> str:
    """What was taken, and what was not read."""
    said = [f"in {'.'.join(path)}"] if path else []
    said += [taken.did] if taken.did else []
    if left:
        listed = ", ".join(map(repr, left[:MAX_LISTED])) + (", ..." if len(left) > MAX_LISTED else "")
        said.append(f"not read, no part of the model: {listed}")
    for reason in dict.fromkeys(unread.values()):
        dropped = [key for key, why in unread.items() if why == reason]
        said.append(f"not read, {reason}: {', '.join(dropped[:3])}{', ...' if len(dropped) > 3 else ''}")
    return "; ".join(said)


def read_tensors(folder: Path, entries: Mapping[str, Entry]) -> dict[str, Tensor]:
    """The tensors of these keys, put together from their chunks; no other bytes are read.

    Raises:
        CheckpointError: naming file and key, where bytes are not what the metadata says.
    """
    # all of them first: between chunks that come and go they would leave gaps in memory
    tensors = {key: torch.empty(entry.shape, dtype=entry.dtype) for key, entry in entries.items()}
    with ExitStack() as stack:
        files: dict[str, ChunkFile] = {}
        for key, entry in entries.items():
            for chunk in entry.chunks:
                if not math.prod(chunk.sizes):
                    continue
                if chunk.file not in files:
                    # unbuffered: a buffer would read on beyond the chunk
                    opened = stack.enter_context((folder / chunk.file).open("rb", buffering=0))
                    files[chunk.file] = ChunkFile(opened)
                place = (slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))
                tensors[key][tuple(place)] = _read_chunk(files[chunk.file], key, chunk, entry.dtype)
    return tensors


def _read_chunk(file: "ChunkFile", key: str, chunk: Chunk, dtype: torch.dtype) -> Tensor:
    at = f"{chunk.file}: {key} at {chunk.offsets}"
    try:
        part = file.read(key, chunk)
    except CheckpointError as error:
        raise CheckpointError(f"{at}: {error.headline}", error.problems, error.hint or AGAIN) from error
    except Exception as error:  # torch and safetensors raise nearly everything on damaged bytes
        problems = [f"{type(error).__name__}: {str(error)[:200]}"]
        raise CheckpointError(f"{at}: cannot be read; truncated or damaged.", problems, AGAIN) from error
    if tuple(part.shape) != chunk.sizes or part.dtype != dtype or part.layout != torch.strided:
        found, told = f"{tuple(part.shape)} of {part.dtype}", f"{chunk.sizes} of {dtype}"
        raise CheckpointError(f"{at}: holds {found}, not {told} as its {METADATA} says.", hint=AGAIN)
    return part


class ChunkFile:
    """An open file of chunks: each in an archive of ``torch.save``, or all in one of safetensors."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.headers: dict[int, tuple[int, dict[str, Any]] | None] = {}

    def read(self, key: str, chunk: Chunk) -> Tensor:
        if chunk.start not in self.headers:
            self.headers[chunk.start] = self._read_header(chunk.start)
        header = self.headers[chunk.start]
        if header is None:
            return open_saved_tensor(self._read_range(chunk.start, chunk.length))
        # of safetensors the metadata tells where they begin together; the header tells of each
        begins, described = header[0], header[1].get(key)
        if described is None:
            raise CheckpointError("is not among its tensors.")
        start, end = described["data_offsets"]
        alone = json.dumps({key: {**described, "data_offsets": [0, end - start]}}).encode()
        content = self._read_range(begins + start, chunk.length)
        return load_safetensors(len(alone).to_bytes(8, "little") + alone + content)[key]

    def _read_header(self, start: int) -> tuple[int, dict[str, Any]] | None:
        """Where the data of safetensors begin, and the header before them; None where an archive begins."""
        beginning = self._read_range(start, 9)
        if beginning[8:] != b"{":
            return None
        length = int.from_bytes(beginning[:8], "little")
        if length > LARGEST_HEADER:
            raise CheckpointError(f"has a header of {length:,} bytes.")
        return start + 8 + length, json.loads(self._read_range(start + 8, length))

    def _read_range(self, start: int, length: int) -> bytes:
        self.file.seek(start)
        parts = []
        while length and (part := self.file.read(length)):  # one call reads at most 2 GiB
            parts.append(part)
            length -= len(part)
        if length:
            raise CheckpointError(f"ends {length:,} bytes early.")
        return parts[0] if len(parts) == 1 else b"".join(parts)
