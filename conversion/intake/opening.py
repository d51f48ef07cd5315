"""Open one file, whatever its format, without running anything in it."""

import errno
import os
import pickle
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from conversion.errors import CheckpointError, concerning
from conversion.intake.absence import explain_absence
from conversion.intake.budget import BUDGET, RESAVE, UNZIP, explain_excess
from conversion.intake.directory import check_directory
from conversion.intake.scanning import explain_protocol
from conversion.intake.unpickling import (
    LEGACY_PICKLES,
    Foreign,
    StandInTensor,
    list_foreign,
    load_with_stand_ins,
    refuse_code,
)

MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19."
"""A number that files of ``torch.save`` older than 1.6 begin with, behind what the protocol puts before it."""

LEGACY_MAGIC = b"\x80\x02\x8a\x0a" + MAGIC
"""How such files begin, in the protocol that is read."""

DAMAGED = "cannot be read; truncated, damaged, or not a checkpoint."
TOO_LARGE = "cannot be mapped into memory."
NEEDS = "The file has {size} bytes: read it on a machine that has more memory than that."
AGAIN = "The file has {size} bytes; compare with its source, and download or copy it again."


@dataclass(frozen=True)
class Opened:
    """What a file holds.

    Attributes:
        content: tensors in whatever containers they were saved in.
        format: what it is, and how it was read.
        foreign: full names of pickled classes that were not built.
    """

    content: Any
    format: str
    foreign: tuple[str, ...] = ()


def open_file(path: Path) -> Opened:
    """Open a checkpoint file by its content, whatever its name. Tensors are memory-mapped where the format allows it.

    Raises:
        CheckpointError: it is absent, empty, truncated, of another format, or needs code to be run.
    """
    with concerning(path):
        try:
            with path.open("rb") as file:
                beginning = file.read(32)
        except (OSError, ValueError) as error:
            raise explain_absence(path, error) from error
        size = path.stat().st_size
        if size == 0:
            raise CheckpointError("the file is empty.", hint="Download or copy it again.")
        try:
            return _read(path, beginning)
        except CheckpointError:
            raise
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                "holds a pickle that torch's safe unpickler does not read, or is not a checkpoint.",
                [_first_sentence(error)],
                hint=RESAVE,
            ) from error
        except Exception as error:  # torch and safetensors raise nearly everything on damaged bytes
            problems = [f"{type(error).__name__}: {_first_sentence(error)}"]
            if isinstance(error, MemoryError) or os.strerror(errno.ENOMEM) in str(error):
                raise CheckpointError(TOO_LARGE, problems, NEEDS.format(size=size)) from error
            raise CheckpointError(DAMAGED, problems, AGAIN.format(size=size)) from error


def list_tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in nested containers, each once; containers may hold themselves."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _read(path: Path, beginning: bytes) -> Opened:
    if beginning[8:9] == b"{":  # after the length of a header in JSON
        from safetensors.torch import load_file

        return Opened(load_file(path), "safetensors, memory-mapped")
    if beginning.startswith(b"PK"):
        return _read_archive(path)
    if beginning.startswith(LEGACY_MAGIC):
        with path.open("rb") as file:
            foreign = list_foreign(file, LEGACY_PICKLES)
        return _read_torch(path, foreign, mmap=False, described="torch.save before 1.6, read whole")
    if beginning[:1] == b"\x80" and MAGIC in beginning:
        raise explain_protocol(beginning[1])
    if beginning.startswith(b"version https://"):
        hint = "Fetch the file itself: git lfs pull."
        raise CheckpointError("a pointer of git-lfs, in place of the file.", hint=hint)
    raise CheckpointError(
        "not a checkpoint: neither torch.save's archive nor its older format, nor safetensors.",
        [f"begins with {beginning[:16]!r}"],
        hint="Download it again if it should be one; or load it where it was written, and save the state dict alone.",
    )


def _read_archive(path: Path) -> Opened:
    # by the name torch.load would take it for another format
    mmap = path.suffix != ".safetensors"
    described = "torch.save, memory-mapped" if mmap else "torch.save, read whole"
    with path.open("rb") as file:
        sizes, foreign = _look_through_archive(file)
    opened = _read_torch(path, foreign, mmap=mmap, described=described)
    _check_sizes(opened.content, sizes)
    return opened


def open_saved_tensor(content: bytes) -> Tensor:
    """The one tensor in an archive of ``torch.save``, given as bytes.

    Raises:
        CheckpointError: there is something else in it.
        Exception: nearly any other, where the bytes are damaged.
    """
    sizes, foreign = _look_through_archive(BytesIO(content))
    refuse_code(foreign.names)
    if foreign.names:
        raise CheckpointError("holds something else than a plain tensor.", foreign.names)
    tensor = load_with_stand_ins(lambda: torch.load(BytesIO(content), map_location="cpu", weights_only=True), foreign)
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"holds a {type(tensor).__qualname__}, not a tensor.")
    _check_sizes(tensor, sizes)
    return tensor


def _look_through_archive(file: IO[bytes]) -> tuple[list[int], Foreign]:
    """The sizes of an archive's records, and what its pickle wants built that torch's unpickler does not build.

    Raises:
        CheckpointError: it is not one that ``torch.save`` writes, or takes more than a checkpoint may.
    """
    check_directory(file)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        # in capitals, too: torch's reader takes them for the same
        pickled = [record for record in records if record.filename.rpartition("/")[2].lower() == "data.pkl"]
        if any(record.filename.rpartition("/")[2] == "constants.pkl" for record in records):
            raise CheckpointError("a TorchScript archive, which is a program.", hint=RESAVE)
        if len(pickled) != 1:
            found = [record.filename for record in records]
            counted = "no data.pkl" if not pickled else f"{len(pickled)} of data.pkl"
            raise CheckpointError(f"a zip archive, but not one of torch.save: it has {counted}.", found, hint=UNZIP)
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise CheckpointError("a compressed archive; torch.save compresses nothing.", hint=STORE)
    if pickled[0].file_size > BUDGET.size:
        raise explain_excess("bytes", BUDGET.size, f"{pickled[0].filename} has {pickled[0].file_size:,}")
    file.seek(_find_data(file, pickled[0]))
    return [record.file_size for record in records], list_foreign(file, 1)


STORE = "Pack it again without compression: unzip FILE -d unpacked && cd unpacked && zip -0 -r ../stored.pth ."


def _find_data(file: IO[bytes], record: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored record begin.

    Read through ``zipfile`` they would be held against a checksum, which torch leaves out where it is told to.
    """
    file.seek(record.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(record.header_offset + 30 + name + extra)


def _read_torch(path: Path, foreign: Foreign, *, mmap: bool, described: str) -> Opened:
    refuse_code(foreign.names)

    def load() -> Any:
        if mmap:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)

    return Opened(_make_plain(load_with_stand_ins(load, foreign)), described, foreign.names)


def _make_plain(content: Any) -> Any:
    """Nested mappings as plain dictionaries: a pickle may put anything in the place of another class's methods."""
    made: dict[int, dict[Any, Any]] = {}
    outermost = [content]
    waiting: list[tuple[Any, Any, Any]] = [(outermost, 0, content)]
    while waiting:
        holder, key, value = waiting.pop()
        if not isinstance(value, dict):
            continue
        if id(value) not in made:
            made[id(value)] = dict(dict.items(value))
            waiting += [(made[id(value)], *item) for item in dict.items(value)]
        holder[key] = made[id(value)]
    return outermost[0]


def _check_sizes(content: Any, sizes: list[int]) -> None:
    """A storage is as long as its record: a longer one, mapped, would run into the next."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in list_tensors(content)
        if tensor.layout == torch.strided and tensor.device.type == "cpu" and not isinstance(tensor, StandInTensor)
    }
    beyond = Counter(size for size in storages.values() if size) - Counter(sizes)
    if beyond:
        problems = [f"{size} bytes, of {count} storage(s)" for size, count in beyond.items()]
        raise CheckpointError(
            "its pickle describes tensors of other sizes than it stores.", problems, hint="Copy it again."
        )


def _first_sentence(error: Exception) -> str:
    """What torch's safe unpickler says after its advice to load without it, which is never followed here."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return text.split("\n")[0].split(". ")[0][:300]
