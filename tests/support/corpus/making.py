"""How bad checkpoints are made.

Files are made of a tiny sound model. Nothing in them may run: those that carry code would create a file called ``ran``.
"""

import importlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.golden import NUM_HEADS, tiny


@dataclass(frozen=True)
class BadInput:
    """A file, folder or pattern that must be refused.

    Attributes:
        make: writes it into a folder.
        says: the message must hold, as a regular expression.
        name: what is given as the checkpoint, relative to that folder.
        options: of :func:`conversion.read_checkpoint`.
        num_heads: that :func:`conversion.convert` is told.
    """

    make: Callable[[Path], object]
    says: str
    name: str = "bad.pth"
    options: Mapping[str, Any] = field(default_factory=dict)
    num_heads: int | None = NUM_HEADS


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object, **options: Any) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False, **options)


def write(content: bytes, folder: Path, name: str = "bad.pth") -> None:
    (folder / name).write_bytes(content)


def holding(content: object) -> Callable[[Path], None]:
    """A file of ``torch.save`` that holds this."""
    return lambda folder: write(saved(content), folder)


def with_tensor(key: str, tensor: object) -> Callable[[Path], None]:
    """The tiny model with another value under one key."""
    return holding({**tiny(), key: tensor})


def without(*keys: str) -> Callable[[Path], None]:
    return holding({key: tensor for key, tensor in tiny().items() if key not in keys})


class Calls:
    """Pickled as a call of something, by its full name, that would run if it were unpickled carelessly."""

    def __init__(self, name: str, *args: object) -> None:
        module, _, attribute = name.rpartition(".")
        self.called = getattr(importlib.import_module(module), attribute)
        self.args = args

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.called, self.args


def calling(name: str, *args: object) -> Callable[[Path], None]:
    return holding({"model": tiny(), "hook": Calls(name, *args)})


def archive(records: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in records.items():
            file.writestr(name, content)
    return buffer.getvalue()


def records_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {record.filename: file.read(record) for record in file.infolist()}


def change_record(suffix: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    """The tiny model's archive with one of its records changed, or left out."""

    def make(folder: Path) -> None:
        changed = {
            name: change(content) if name.endswith(suffix) else content
            for name, content in records_of(saved(tiny())).items()
        }
        write(archive({name: content for name, content in changed.items() if content is not None}), folder)

    return make


def make_huge(pickled: bytes) -> bytes:
    """The pickle of the tiny model, where the first shape of ``(32,)`` and its storage claim a thousand million."""
    return pickled.replace(b"K\x20\x85", b"J\x00\xca\x9a\x3b\x85", 1).replace(b"K\x20", b"J\x00\xca\x9a\x3b", 1)


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def nest_tuples(depth: int) -> bytes:
    """A pickle of a mapping whose one key are so many tuples in each other: hashed, it would crash the interpreter."""
    return b"\x80\x02})" + b"\x85" * depth + b"Ns."


def nest_in_itself() -> dict[str, object]:
    content: dict[str, object] = {}
    content["model"] = {"module": content}
    return content


def nest_deeply(depth: int = 400) -> object:
    content: object = {"epoch": 1}
    for _ in range(depth):
        content = {"model": content}
    return content


def write_shards(folder: Path, weight_map: object, **files: dict[str, Tensor]) -> None:
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def configured(config: bytes, tensors: dict[str, Tensor]) -> Callable[[Path], None]:
    """A folder with a ``config.json`` beside these weights."""

    def make(folder: Path) -> None:
        write(config, folder, "config.json")
        save_file(tensors, folder / "model.safetensors")

    return make


def write_ranks(folder: Path, *pieces: dict[str, Tensor], first: int = 0) -> None:
    for rank, held in enumerate(pieces, start=first):
        torch.save({"model": held}, folder / f"model_0001.rank_{rank}.pth")


def cut_in_two(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As two ranks of a sharded run hold it, each tensor cut along its first dimension."""
    halves = {key: (*tensor.chunk(2), tensor[:0]) for key, tensor in tensors.items()}
    return {key: parts[0].clone() for key, parts in halves.items()}, {
        key: parts[1].clone() for key, parts in halves.items()
    }


def forbid_reading(folder: Path) -> None:
    write(saved(tiny()), folder)
    (folder / "bad.pth").chmod(0)


def quantize(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on its way out of torch, not out of the world
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def compress_rows(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tensor.to_sparse_csr()


def half_of(content: bytes) -> bytes:
    return content[: len(content) // 2]


WEIGHT = "blocks.1.mlp.fc1.weight"
PICKLED = saved(tiny())
FIRST_KEYS = dict.fromkeys(tiny(), "a.safetensors")
RUN = ("touch ran",)
