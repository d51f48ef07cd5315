"""Files made to keep a reader busy, to fill its memory, or to show two readers different things."""

import collections
import io
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.support.corpus.making import (
    PICKLED,
    BadInput,
    Calls,
    archive,
    change_record,
    holding,
    legacy,
    records_of,
    saved,
    with_tensor,
    write,
)
from tests.support.golden import tiny

START, STOP = b"\x80\x02", b"."
SHARED = b"N" + b"q\0h\0\x86" * 60
"""60 tuples, each twice in the next: 2 ** 60 values to whoever hashes the last."""

SHARED_LISTS = b"(]q\0" + b"]h\0ah\0aq\0" * 60 + b"t"
"""60 lists, each twice in the next: 2 ** 60 lists to whoever prints the last."""


def pickled(body: bytes) -> Callable[[Path], None]:
    """An archive of the tiny model with this in the place of its pickle."""
    return change_record("data.pkl", lambda _: START + body + STOP)


def text(content: bytes, length: int | None = None) -> bytes:
    return b"X" + struct.pack("<I", len(content) if length is None else length) + content


def call(name: str, *arguments: bytes) -> bytes:
    """The opcodes of a call."""
    module, _, last = name.rpartition(".")
    return b"c" + f"{module}\n{last}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def view(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    """A tensor that is another view of twelve values than they can give."""
    storage = torch.arange(12.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return Calls("torch._utils._rebuild_tensor_v2", typed, offset, shape, stride, False, collections.OrderedDict())


def in_the_last_pickle(body: bytes) -> Callable[[Path], None]:
    """A file of the old format whose last pickle, of the names of its storages, is another."""
    content = legacy({"a": torch.zeros(1)})
    start = content.rindex(START + b"]")
    return partial(write, content[:start] + START + body + STOP + content[start:])


def with_second_directory(folder: Path) -> None:
    """Two tables of contents: the end speaks of the first, the second lies where others look for it."""
    hidden = records_of(saved({"hidden": torch.zeros(1)}))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, held in hidden.items():
            file.writestr(name, held)
    first = content.getvalue()
    sound = archive(records_of(PICKLED))
    place, length = struct.unpack("<I", sound[-6:-2])[0], struct.unpack("<I", sound[-10:-6])[0]
    write(first[:-22] + sound[:place] + sound[place : place + length] + sound[-22:], folder)


def list_many(folder: Path) -> None:
    """An archive whose end says that two million records are listed, none of which is there."""
    number = 2_000_000
    end = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, number, number, 0, 0)
    write(end + b"PK\6\7" + struct.pack("<IQI", 0, 0, 1) + b"PK\5\6" + bytes(18), folder)


def in_capitals(folder: Path) -> None:
    """A second pickle that torch's reader takes for the first."""
    records = records_of(PICKLED)
    name = next(name for name in records if name.endswith("/data.pkl"))
    other = records_of(saved([1]))["archive/data.pkl"]
    write(archive({name.replace("data.pkl", "DATA.PKL"): other, **records}), folder)


def declare(size: int) -> Callable[[Path], None]:
    """An archive whose table of contents says that its pickle has so many bytes."""

    def make(folder: Path) -> None:
        content = bytearray(archive(records_of(PICKLED)))
        entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data.pkl"))
        content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
        write(bytes(content), folder)

    return make


TOO_MUCH = "takes more than a checkpoint may: more than "
SAVE_ALONE = r"(.|\n)*save the state dict alone"

PICKLES: dict[str, BadInput] = {
    "a key of tuples that share themselves": BadInput(
        pickled(b"}" + SHARED + b"Ns"), TOO_MUCH + "50,000,000 steps of hashing" + SAVE_ALONE
    ),
    "several such keys at once": BadInput(
        pickled(b"}(" + SHARED + b"Nh\0Nu"), TOO_MUCH + "50,000,000 steps of hashing"
    ),
    "a set of such keys": BadInput(
        pickled(call("__builtin__.set", b"]" + SHARED + b"a")), TOO_MUCH + "50,000,000 steps of hashing"
    ),
    "an ordered dictionary of such keys": BadInput(
        pickled(call("collections.OrderedDict", b"]](" + SHARED + b"Nea")), TOO_MUCH + "50,000,000 steps"
    ),
    "a long list for thousands of sets": BadInput(
        pickled(b"]r\0\0\1\0(" + b"N" * 50_000 + b"e0(" + call("__builtin__.set", b"j\0\0\1\0") * 2_000 + b"l"),
        TOO_MUCH + "50,000,000 steps",
    ),
    "such keys in the last pickle of the old format": BadInput(
        in_the_last_pickle(b"}" + SHARED + b"Ns"), TOO_MUCH + "50,000,000 steps of hashing"
    ),
    "a hundred thousand globals": BadInput(
        pickled(b"(" + b"".join(b"ca%d\nb\n" % index for index in range(100_000)) + b"t"),
        TOO_MUCH + "1,000 different globals" + SAVE_ALONE,
    ),
    "five million opcodes": BadInput(pickled(b"N" * 5_000_000), TOO_MUCH + "5,000,000 opcodes" + SAVE_ALONE),
    "whole numbers with one hash": BadInput(
        pickled(b"}(" + b"".join(number(index * (2**61 - 1)) + b"N" for index in range(1, 2_000)) + b"u"),
        TOO_MUCH + "1,000 whole numbers of more than 60 bits",
    ),
    "tuples with one hash": BadInput(
        pickled(b"}(" + (b"M\1\0M\2\0\x86N" * 50_000) + b"u"), TOO_MUCH + "50,000,000 steps"
    ),
    "lists far in each other": BadInput(
        pickled(b"]" * 100_000 + b"a" * 99_999), "containers more than 200 deep in each other"
    ),
    "dictionaries far in each other": BadInput(
        pickled((b"}" + text(b"model")) * 10_000 + b"N" + b"s" * 10_000), "containers more than 200 deep in each other"
    ),
    "lists that share themselves": BadInput(
        pickled(b"}" + text(b"a") + SHARED_LISTS + b"s"), r"1 of 1 entries are not tensors.*\n.*'a': a tuple"
    ),
    "a name of a hundred million bytes": BadInput(
        pickled(b"}" + text(b"a", 100_000_000)), TOO_MUCH + r"67,108,864 bytes of one text.*\n.*100,000,000 bytes"
    ),
    "a key of a million letters": BadInput(
        holding({**tiny(), "a" * 1_000_000: torch.zeros(1)}), r"'aaaa[^\n]{,90} \(1,000,000 characters\)"
    ),
    "a module with an endless name": BadInput(
        pickled(b"c" + b"a" * 1_000_000 + b"\nb\n"), TOO_MUCH + "1,000 bytes of one name"
    ),
    "a number of two thousand million bytes": BadInput(
        pickled(b"\x8b\xff\xff\xff\x7f"), TOO_MUCH + r"67,108,864 bytes of one text or number.*\n.*2,147,483,647"
    ),
    "a text of a million million bytes": BadInput(
        pickled(b"\x8d" + struct.pack("<Q", 10**12)), TOO_MUCH + "67,108,864 bytes of one text or number"
    ),
    "texts that are longer than is read": BadInput(
        pickled(text(b"", 64 * 2**20) * 5), f"{TOO_MUCH}268,435,456 bytes|truncated, damaged"
    ),
    "bytes by their number": BadInput(
        pickled(call("__builtin__.bytearray", number(10**11))), "calls builtins.bytearray otherwise than for bytes"
    ),
    "bytes that grow with every call": BadInput(
        pickled(call("_codecs.encode", call("_codecs.encode", text(b"a"), text(b"utf-8")), text(b"hex"))),
        "calls _codecs.encode otherwise than for bytes",
    ),
    "bytes by way of a tensor's class": BadInput(
        pickled(call("torch._tensor._rebuild_from_type_v2", b"c__builtin__\nbytearray\n", b"N", b"K\1\x85", b"N")),
        "has builtins.bytearray called for a tensor",
    ),
    "an object of a protocol before the second": BadInput(
        pickled(b"(i__main__\nA\n"), r"safe unpickler does not read.*\n.*Unsupported opcode INST" + SAVE_ALONE
    ),
    "a stack without its values": BadInput(pickled(b"}\x87"), r"truncated, damaged.*\n.*IndexError"),
    "a value that was never kept": BadInput(pickled(b"h\5"), r"truncated, damaged.*\n.*KeyError"),
}  # fmt: skip
"""What the scan refuses, before anything is built; or what is built and harmless."""

SHOWN_TWICE: dict[str, BadInput] = {
    "two tables of contents": BadInput(with_second_directory, "parts do not lie where its end says"),
    "a second pickle in capitals": BadInput(in_capitals, r"2 of data\.pkl"),
    "an archive with a comment": BadInput(
        partial(write, PICKLED[:-2] + b"\5\0hello"), "a zip archive with something after its end"
    ),
    "an archive with something behind": BadInput(
        partial(write, PICKLED + bytes(100)), "a zip archive with something after its end"
    ),
    "an archive with something before": BadInput(
        partial(write, archive({"x": b""})[:-22] + PICKLED), "parts do not lie where its end says"
    ),
    "an archive of two million records": BadInput(
        list_many, TOO_MUCH + r"1,000,000 records.*\n.*table of contents lists 2,000,000"
    ),
    "a pickle of four thousand million bytes": BadInput(declare(4_000_000_000), TOO_MUCH + "268,435,456 bytes"),
}

VIEWS: dict[str, BadInput] = {
    "a view far beyond its storage": BadInput(with_tensor("norm.bias", view(10**9, (4,), (1,))), "truncated, damaged"),
    "a view that ends beyond it": BadInput(with_tensor("norm.bias", view(9, (4,), (1,))), "truncated, damaged"),
    "a view that runs backwards": BadInput(with_tensor("norm.bias", view(11, (4,), (-1,))), "truncated, damaged"),
    "a view from before its storage": BadInput(with_tensor("norm.bias", view(-4, (4,), (1,))), "truncated, damaged"),
    "a view of a negative size": BadInput(with_tensor("norm.bias", view(0, (-4,), (1,))), "truncated, damaged"),
    "a view that stands still": BadInput(
        with_tensor("norm.bias", view(0, (10**6, 10**6), (0, 0))), r"norm\.bias: .*expanded from 48 bytes"
    ),
    "ten thousand storages": BadInput(
        holding({f"a.{index}.b": torch.zeros(1) for index in range(10_000)}), r"every key begins with 'a\.'"
    ),
}
