"""Folders of torch.distributed.checkpoint that must be refused: not whole, damaged, or made to harm."""

import argparse
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex

from tests.support.corpus.hostile import SHARED, TOO_MUCH
from tests.support.corpus.making import RUN, WEIGHT, BadInput, Calls, half_of, safetensors_file, saved, write
from tests.support.golden import tiny

SHARD = "__0_0.distcp"
KEY = "model." + WEIGHT
INDEX = MetadataIndex(KEY, (0, 0))


def save(folder: Path, content: dict[str, Any] | None = None) -> None:
    """What one process saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(content or {"model": tiny(), "epoch": 3}, checkpoint_id=folder, no_dist=True)


def with_metadata(change: Callable[[Metadata], object]) -> Callable[[Path], None]:
    """A sound folder whose metadata are changed."""

    def make(folder: Path) -> None:
        save(folder)
        metadata = pickle.loads((folder / ".metadata").read_bytes())
        change(metadata)
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))

    return make


def with_file(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    """A sound folder of which one file is changed, or left out."""

    def make(folder: Path) -> None:
        save(folder)
        changed = change((folder / name).read_bytes())
        (folder / name).unlink()
        if changed is not None:
            write(changed, folder, name)

    return make


def with_place(**values: Any) -> Callable[[Path], None]:
    """A sound folder whose metadata tell another place of one tensor."""

    def change(metadata: Metadata) -> None:
        for name, value in values.items():
            setattr(metadata.storage_data[INDEX], name, value)

    return with_metadata(change)


def with_chunks(*chunks: tuple[tuple[int, ...], tuple[int, ...]], size: tuple[int, ...] = ()) -> Callable[[Path], None]:
    """A sound folder whose metadata tell of other chunks of one tensor, all at the place of the one that it has."""

    def change(metadata: Metadata) -> None:
        entry, place = metadata.state_dict_metadata[KEY], metadata.storage_data[INDEX]
        entry.chunks = [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in chunks]
        entry.size = torch.Size(size) if size else entry.size
        metadata.storage_data |= {MetadataIndex(KEY, offsets): place for offsets, _ in chunks}

    return with_metadata(change)


def swap_tensor(held: Tensor | object) -> Callable[[Path], None]:
    """A sound folder where something else is stored in the place of one tensor."""

    def make(folder: Path) -> None:
        content = saved(held)
        with_place(offset=0, length=len(content), relative_path="other.distcp")(folder)
        write(content, folder, "other.distcp")

    return make


def with_entry(**values: Any) -> Callable[[Path], None]:
    """A sound folder whose metadata describe one tensor otherwise."""

    def change(metadata: Metadata) -> None:
        for name, value in values.items():
            setattr(metadata.state_dict_metadata[KEY], name, value)

    return with_metadata(change)


def put_at(key: str, *path: str) -> Callable[[Path], None]:
    """A sound folder whose metadata tell that something lies in other entries."""
    return with_metadata(lambda metadata: metadata.planner_data.update({key: path}))


def swap_bytes(content: bytes) -> Callable[[Path], None]:
    """A sound folder that has these bytes in the place of one tensor's file."""

    def make(folder: Path) -> None:
        with_place(offset=0, length=len(content), relative_path="other.distcp")(folder)
        write(content, folder, "other.distcp")

    return make


def rename_in_safetensors(folder: Path) -> None:
    """A folder of safetensors, in whose header one tensor has another name."""
    writer = dcp.FileSystemWriter(folder, serialization_format=SerializationFormat.SAFETENSORS)
    with warnings.catch_warnings(action="ignore"):
        dcp.save({"model": tiny()}, storage_writer=writer, no_dist=True)
    content = (folder / SHARD).read_bytes()
    write(content.replace(f'"{KEY}"'.encode(), f'"{KEY[:-1]}_"'.encode()), folder, SHARD)


def leave_sparse(folder: Path) -> None:
    """Metadata of more bytes than may be read, none of which take room on the disk."""
    save(folder)
    with (folder / ".metadata").open("r+b") as file:
        file.truncate(300 * 2**20)


def call_in_metadata(folder: Path) -> None:
    save(folder)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = Calls("os.system", *RUN)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


WHERE = rf"__0_0\.distcp: {KEY} at \(0, 0\)"
OTHER = rf"other\.distcp: {KEY} at \(0, 0\)"

DISTRIBUTED: dict[str, BadInput] = {
    "a part of a distributed checkpoint": BadInput(
        save, r"/__0_0\.distcp: one part of .*torch\.distributed\.checkpoint\.\nGive its folder: /.*", SHARD
    ),
    "a distributed checkpoint without its metadata": BadInput(
        with_file(".metadata", lambda _: None), r"without \.metadata.*\n.*__0_0\.distcp\n.*ls -a", "."
    ),
    "a part of one without its metadata": BadInput(
        with_file(".metadata", lambda _: None), r"one part of a checkpoint.*\n.*ls -a", SHARD
    ),
    "a folder of distributed checkpoints": BadInput(
        lambda folder: save(folder / "pytorch_model_fsdp_0"),
        r"a folder of checkpoints of torch.*\n.*pytorch_model_fsdp_0\n.* inspect \S*/pytorch_model_fsdp_0$",
        ".",
    ),
    "empty metadata": BadInput(with_file(".metadata", lambda _: b""), r"\.metadata: cannot be read; truncated", "."),
    "metadata cut in half": BadInput(with_file(".metadata", half_of), r"\.metadata: cannot be read; truncated", "."),
    "metadata with a set of keys that share themselves": BadInput(
        with_file(".metadata", lambda _: b"\x80\x04\x8f(" + SHARED + b"\x90."),
        rf"\.metadata: {TOO_MUCH}50,000,000 steps",
        ".",
    ),
    "metadata with such a frozen set": BadInput(
        with_file(".metadata", lambda _: b"\x80\x04(" + SHARED + b"\x91."),
        rf"\.metadata: {TOO_MUCH}50,000,000 steps",
        ".",
    ),
    "metadata that name a class by a number": BadInput(
        with_file(".metadata", lambda _: b"\x80\x04K\1K\2\x93."),
        r"\.metadata: .*\n.*global whose name is not written",
        ".",
    ),
    "metadata of something else": BadInput(
        with_file(".metadata", lambda _: pickle.dumps({"a": 1})), r"\.metadata: is not what torch\.distributed", "."
    ),
    "metadata of 300 MiB": BadInput(leave_sparse, r"more than 268,435,456 bytes.*\n.*\.metadata has 314,572,800", "."),
    "a tensor without a dtype": BadInput(with_entry(properties=None), rf"impossible tensors.*\n.*{KEY}: no dtype", "."),
    "a tensor without its chunks": BadInput(
        with_entry(chunks=None), rf"impossible tensors.*\n.*{KEY}: no list of chunks", "."
    ),
    "an entry within a tensor": BadInput(
        put_at("epoch", "model", WEIGHT, "epoch"), r"\.metadata: epoch lies in another tensor", "."
    ),
    "two tensors in one place": BadInput(
        put_at("model.norm.bias", "model", WEIGHT), r"several keys lead to the same place.*\n.*model\.norm\.bias", "."
    ),
    "metadata that call a program": BadInput(
        call_in_metadata,
        r"\.metadata: its pickle refers to callables that could run code; none was called.*\n.*system",
        ".",
    ),
    "metadata of a file outside": BadInput(
        with_place(relative_path="../" + SHARD), rf"\.\./{WHERE}: the file is not in the folder itself", "."
    ),
    "metadata of a file by its whole path": BadInput(
        with_place(relative_path="/etc/passwd"), rf"/etc/passwd: {KEY} .*not in the folder itself", "."
    ),
    "metadata of a file that is not there": BadInput(
        with_place(relative_path="__1_0.distcp"), rf"__1_0\.distcp: {KEY} at \(0, 0\): the file is not there", "."
    ),
    "a place beyond the end": BadInput(with_place(offset=2**40), rf"{WHERE}: ends at byte .*; the file has", "."),
    "a place before the beginning": BadInput(with_place(offset=-1), rf"{KEY}: the chunk .* lies at -1", "."),
    "another tensor's place": BadInput(with_place(offset=0), rf"__0_0\.distcp: .*{KEY}.*: both at byte", "."),
    "a compressed chunk": BadInput(
        with_place(transform_descriptors=["stream.zstd/1"]), rf"{WHERE}: written through stream\.zstd/1", "."
    ),
    "a shard cut in half": BadInput(with_file(SHARD, half_of), r"__0_0\.distcp: model\..*: ends at byte", "."),
    "a shard that is missing": BadInput(with_file(SHARD, lambda _: None), r"__0_0\.distcp: model\..*not there", "."),
    "a shard of zeros": BadInput(
        with_file(SHARD, lambda content: bytes(len(content))), r"__0_0\.distcp: model\..*: cannot be read", "."
    ),
    "a huge shape": BadInput(
        with_chunks(((0, 0), (2**20, 2**20)), size=(2**20, 2**20)), rf"{WHERE}: .* does not fit in its", "."
    ),
    "a shape beyond all memory": BadInput(
        with_chunks(((0, 0), (128, 32)), size=(2**40, 2**40)), rf"{KEY} .*: too large to be", "."
    ),
    "one chunk for many": BadInput(
        with_chunks(*(((128 * index, 0), (128, 32)) for index in range(64)), size=(128 * 64, 32)),
        rf"__0_0\.distcp: {KEY} and {KEY}: both at byte",
        ".",
    ),
    "chunks that overlap": BadInput(
        with_chunks(((0, 0), (96, 32)), ((64, 0), (64, 32))),
        rf"__0_0\.distcp: {KEY}: the chunks at \(0, 0\) and \(64, 0\) overlap",
        ".",
    ),
    "chunks with a gap": BadInput(
        with_chunks(((0, 0), (64, 32)), ((96, 0), (32, 32))), rf"__0_0\.distcp: {KEY}: chunks of 3,072 elements", "."
    ),
    "a chunk outside of its tensor": BadInput(
        with_chunks(((64, 0), (128, 32))), rf"{KEY} at \(64, 0\): \(128, 32\) lies outside of \(128, 32\)", "."
    ),
    "a chunk of other dimensions": BadInput(with_chunks(((0,), (4096,))), rf"{KEY} at \(0,\): .* lies outside of", "."),
    "no chunks": BadInput(with_chunks(), rf"{KEY}: chunks of 0 elements, for \(128, 32\)", "."),
    "a chunk without a place": BadInput(
        with_metadata(lambda metadata: metadata.storage_data.pop(INDEX)), rf"{KEY}: nothing tells where the chunk", "."
    ),
    "a chunk of another dtype": BadInput(
        swap_tensor(tiny()[WEIGHT].double()), rf"other\.distcp: {KEY} .*: holds .*float64, not .*float32", "."
    ),
    "a chunk of another shape": BadInput(
        swap_tensor(tiny()[WEIGHT].mT.contiguous()), rf"other\.distcp: {KEY} .*: holds \(32, 128\)", "."
    ),
    "a chunk that calls a program": BadInput(
        swap_tensor([tiny()[WEIGHT], Calls("os.system", *RUN)]),
        rf"other\.distcp: {KEY} .*: .*refers to callables that could run code",
        ".",
    ),
    "a chunk with an object in it": BadInput(
        swap_tensor([tiny()[WEIGHT], argparse.Namespace(lr=0.1)]),
        rf"other\.distcp: {KEY} .*: holds something else than a plain tensor\.\n.*argparse\.Namespace",
        ".",
    ),
    "safetensors under another name": BadInput(rename_in_safetensors, rf"{WHERE}: is not among its tensors", "."),
    "safetensors with an endless header": BadInput(
        swap_bytes(safetensors_file({}, bytes(20_000), length=2**40)),
        rf"{OTHER}: has a header of 1,099,511,627,776 bytes",
        ".",
    ),
    "safetensors cut in their header": BadInput(
        swap_bytes(safetensors_file({}, bytes(20_000), length=50_000)), rf"{OTHER}: ends 29,998 bytes early", "."
    ),
    "a chunk that is no tensor": BadInput(
        swap_tensor({"a": tiny()[WEIGHT]}), rf"other\.distcp: {KEY} .*: holds a dict, not a tensor", "."
    ),
    "a distributed checkpoint without a model": BadInput(
        lambda folder: save(folder, {"optimizer": {"state": {"a": torch.ones(2)}}}), r"holds no|not a state dict", "."
    ),
    "an entry that a distributed checkpoint has not": BadInput(
        save, r"no entry 'teacher'.*\n.*there is: model", ".", {"entry": "teacher"}
    ),
    "flattened parameters in a distributed checkpoint": BadInput(
        lambda folder: save(folder, {"model": {"_flat_param": torch.ones(8)}}),
        r"flattened parameters.*\n.*_flat_param\n.*FULL_",
        ".",
    ),
}
