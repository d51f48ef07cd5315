"""What the ``.metadata`` of a torch.distributed.checkpoint folder says: which tensors there are, and where they lie."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from conversion.errors import CheckpointError
from conversion.intake.budget import BUDGET, explain_excess
from conversion.intake.newer_pickle import read_pickle
from conversion.intake.unpickling import StandIn, read_attribute

METADATA = ".metadata"

LARGEST_SIZE = 2**48
"""Elements of a tensor, or bytes of a file: more than any machine has."""

AGAIN = "Copy the whole folder again, or save it again where the run was made."


@dataclass(frozen=True)
class Chunk:
    """A part of a tensor, and where its bytes lie.

    Attributes:
        offsets: of its first element in the whole.
        sizes: its shape.
        file: name of the file in the folder.
        start, length: of its bytes in that file.
        transforms: what the bytes went through before they were written, as compression.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    length: int
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A tensor, by what the metadata says of it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    chunks: tuple[Chunk, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Metadata:
    """What is in a folder.

    Attributes:
        tensors: flat dotted key to tensor.
        others: keys of what is no tensor.
        paths: key to the entries that lead to it, where the file tells.
    """

    tensors: Mapping[str, Entry]
    others: tuple[str, ...]
    paths: Mapping[str, tuple[object, ...]]


def read_metadata(folder: Path) -> Metadata:
    """Read the metadata of a folder; nothing in it is run, and no other file is opened.

    Raises:
        CheckpointError: it cannot be read, or is made to harm.
    """
    path = folder / METADATA
    size = path.stat().st_size
    if size > BUDGET.size:
        raise explain_excess("bytes", BUDGET.size, f"{METADATA} has {size:,}")
    try:
        content, _ = read_pickle(BytesIO(path.read_bytes()))
        return _read(content)
    except CheckpointError as error:
        raise CheckpointError(f"{METADATA}: {error.headline}", error.problems, error.hint) from error
    except Exception as error:  # the unpickler raises nearly everything on damaged bytes
        problems = [f"{type(error).__name__}: {str(error)[:300]}"]
        raise CheckpointError(f"{METADATA}: cannot be read; truncated or damaged.", problems, AGAIN) from error


def _read(content: Any) -> Metadata:
    if _kind_of(content) != "Metadata":
        raise CheckpointError("is not what torch.distributed.checkpoint writes.", hint=AGAIN)
    places: dict[tuple[str, tuple[int, ...]], Any] = {}
    for index, place in _items(read_attribute(content, "storage_data")):
        key, offset = read_attribute(index, "fqn"), read_attribute(index, "offset")
        if isinstance(key, str) and offset is not None:
            places[key, _read_sizes(offset, key)] = place
    tensors: dict[str, Entry] = {}
    others: list[str] = []
    problems: list[str] = []
    for key, value in _items(read_attribute(content, "state_dict_metadata")):
        if not isinstance(key, str) or _kind_of(value) != "TensorStorageMetadata":
            others.append(str(key)[:1_000])
            continue
        try:
            tensors[key] = _read_tensor(key, value, places)
        except CheckpointError as error:
            problems.append(error.headline)
    if problems:
        raise CheckpointError("describes impossible tensors.", problems, AGAIN)
    paths = {
        key: path
        for key, path in _items(read_attribute(content, "planner_data"))
        if isinstance(key, str) and isinstance(path, tuple) and all(isinstance(name, str | int) for name in path)
    }
    return Metadata(tensors, tuple(others), paths)


def _read_tensor(key: str, value: Any, places: Mapping[tuple[str, tuple[int, ...]], Any]) -> Entry:
    properties = getattr(read_attribute(value, "properties"), "state", None)
    dtype = properties[0] if isinstance(properties, tuple) and properties else None
    shape = _read_sizes(read_attribute(value, "size"), key)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointError(f"{key}: no dtype")
    if math.prod(shape) > LARGEST_SIZE:
        raise CheckpointError(f"{key} {shape}: too large to be")
    parts = read_attribute(value, "chunks")
    if not isinstance(parts, list):
        raise CheckpointError(f"{key}: no list of chunks")
    return Entry(shape, dtype, tuple(_read_chunk(key, part, places) for part in parts))


def _read_chunk(key: str, part: Any, places: Mapping[tuple[str, tuple[int, ...]], Any]) -> Chunk:
    offsets = _read_sizes(read_attribute(part, "offsets"), key)
    sizes = _read_sizes(read_attribute(part, "sizes"), key)
    place = places.get((key, offsets))
    file, start, length = (read_attribute(place, name) for name in ("relative_path", "offset", "length"))
    if place is None:
        raise CheckpointError(f"{key}: nothing tells where the chunk at {offsets} lies")
    if not isinstance(file, str) or not _is_size(start) or not _is_size(length):
        raise CheckpointError(f"{key}: the chunk at {offsets} lies at {start!r} of {file!r}, {length!r} bytes")
    transforms = read_attribute(place, "transform_descriptors") or ()
    return Chunk(offsets, sizes, file, start, length, tuple(map(str, transforms)))


def list_problems(folder: Path, key: str, entry: Entry) -> list[str]:
    """What keeps a tensor from being read from its folder, a line each, naming file and key."""
    problems = []
    for chunk in entry.chunks:
        at = f"{chunk.file}: {key} at {chunk.offsets}"
        ends = [offset + size for offset, size in zip(chunk.offsets, chunk.sizes, strict=False)]
        if not len(chunk.offsets) == len(chunk.sizes) == len(entry.shape) or any(
            end > whole for end, whole in zip(ends, entry.shape, strict=False)
        ):
            problems.append(f"{at}: {chunk.sizes} lies outside of {entry.shape}")
        if Path(chunk.file).name != chunk.file:
            problems.append(f"{at}: the file is not in the folder itself")
        elif not (folder / chunk.file).is_file():
            problems.append(f"{at}: the file is not there")
        elif chunk.start + chunk.length > (size := (folder / chunk.file).stat().st_size):
            problems.append(f"{at}: ends at byte {chunk.start + chunk.length:,}; the file has {size:,}")
        elif chunk.transforms:
            problems.append(f"{at}: written through {', '.join(chunk.transforms)}, which is not read here")
        elif math.prod(chunk.sizes) * entry.dtype.itemsize > chunk.length:
            problems.append(f"{at}: {chunk.sizes} of {entry.dtype} does not fit in its {chunk.length:,} bytes")
    if not problems:
        files = ", ".join(sorted({chunk.file for chunk in entry.chunks})) or METADATA
        held = sum(math.prod(chunk.sizes) for chunk in entry.chunks)
        if overlapping := _find_overlap(entry.chunks):
            first, second = overlapping
            problems.append(f"{files}: {key}: the chunks at {first.offsets} and {second.offsets} overlap")
        elif held != math.prod(entry.shape):
            problems.append(f"{files}: {key}: chunks of {held:,} elements, for {entry.shape}")
    return problems


def list_shared_bytes(folder: Path, entries: Mapping[str, Entry]) -> list[str]:
    """Places in files that several tensors claim, a line each: then one of them would be read as another.

    In files of safetensors the metadata give all tensors one beginning; together they claim no more than there is.
    """
    places: dict[str, list[tuple[int, int, str]]] = {}
    for key, entry in entries.items():
        for chunk in entry.chunks:
            places.setdefault(chunk.file, []).append((chunk.start, chunk.length, key))
    problems = []
    for file, held in places.items():
        held.sort()
        size = (folder / file).stat().st_size
        if len({start for start, _, _ in held}) == 1 and sum(length for _, length, _ in held) <= size:
            continue
        problems += [
            f"{file}: {key} and {other}: both at byte {start:,}"
            for (before, length, key), (start, _, other) in pairwise(held)
            if start < before + length
        ]
    return problems


def _find_overlap(chunks: Sequence[Chunk]) -> tuple[Chunk, Chunk] | None:
    """Two chunks that hold the same element; None if no two do."""
    ordered = sorted((chunk for chunk in chunks if math.prod(chunk.sizes)), key=lambda chunk: chunk.offsets)
    for index, first in enumerate(ordered):
        for second in ordered[index + 1 :]:
            if first.sizes and second.offsets[0] >= first.offsets[0] + first.sizes[0]:
                break  # and so do all after it
            if all(
                mine < other + length and other < mine + size
                for mine, size, other, length in zip(
                    first.offsets, first.sizes, second.offsets, second.sizes, strict=True
                )
            ):
                return first, second
    return None


def _kind_of(value: object) -> str:
    """The name of the class that a stand-in stands for."""
    return type(value).__name__.rpartition(".")[2] if isinstance(value, StandIn) else ""


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    # not by the object's own method: a pickle may put anything in its place
    yield from dict.items(value) if isinstance(value, dict) else ()


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_SIZE


def _read_sizes(value: object, key: str) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > 64 or not all(map(_is_size, value)):
        raise CheckpointError(f"{key}: a shape or place of {str(value)[:100]}")
    return tuple(value)
