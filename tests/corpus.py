"""Bad checkpoints: every step of intake broken in its own way, and what each must be refused with.

Files are made of a tiny sound model. Nothing in them may run: those that carry code would create a file called ``ran``.
"""

import importlib
import io
import json
import pickle
import shutil
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.golden import NUM_HEADS, read_golden


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


def tiny() -> dict[str, Tensor]:
    """A sound model."""
    return dict(read_golden("dinov2_tiny").backbone)


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


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

NO_FILE: dict[str, BadInput] = {
    "an absent file": BadInput(lambda _: None, r"there is no such file"),
    "an absent file beside others": BadInput(
        lambda folder: write(PICKLED, folder, "good.pth"), r"In its folder there are good\.pth"
    ),
    "a name that is too long": BadInput(lambda _: None, "cannot be looked at", "x" * 300),
    "a name with a null byte": BadInput(lambda _: None, "cannot be looked at", "x\0y"),
    "a file that may not be read": BadInput(forbid_reading, r"may not be read.*\n.*\n.*chmod u\+r|cannot be looked at"),
    "an empty folder": BadInput(lambda folder: (folder / "bad.pth").mkdir(), "a folder without a checkpoint in it"),
    "a folder with several checkpoints": BadInput(
        lambda folder: [write(PICKLED, folder, name) for name in ("a.pth", "b.pth")],
        r"a folder with several checkpoints in it.*\n.*a\.pth\n.*b\.pth",
        ".",
    ),
    "a pattern that nothing matches": BadInput(lambda _: None, "no file matches this pattern", "*.pth"),
    "a checkpoint of torch.distributed.checkpoint": BadInput(
        lambda folder: write(b"", folder, ".metadata"), r"dcp_to_torch", "."
    ),
    "a broken link": BadInput(lambda folder: (folder / "bad.pth").symlink_to("nowhere"), "no such file"),
}

DAMAGED: dict[str, BadInput] = {
    "zero bytes": BadInput(partial(write, b""), "the file is empty"),
    "one byte": BadInput(partial(write, b"P"), r"not a checkpoint.*\n.*begins with b'P'"),
    "random bytes": BadInput(partial(write, bytes(range(1, 256)) * 64), "not a checkpoint: neither"),
    "zeros": BadInput(partial(write, bytes(10_000)), "not a checkpoint: neither"),
    "a text file": BadInput(partial(write, b"<html>404 Not Found</html>"), r"begins with b'<html>404"),
    "a pointer of git-lfs": BadInput(
        partial(write, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        r"a pointer of git-lfs.*\n.*git lfs pull",
    ),
    "a truncated file": BadInput(partial(write, half_of(PICKLED)), r"truncated, damaged.*\n.*\n.*bytes; compare"),
    "a file without its beginning": BadInput(partial(write, PICKLED[100:]), "not a checkpoint: neither"),
    "a file without its end": BadInput(partial(write, PICKLED[:-10]), "truncated, damaged"),
    "a truncated file of the old format": BadInput(partial(write, legacy(tiny())[:-1000]), "truncated, damaged"),
    "an old format cut in its pickle": BadInput(partial(write, legacy(tiny())[:200]), "truncated, damaged"),
    "an old format without storages": BadInput(partial(write, legacy(tiny())[:4000]), "truncated, damaged"),
    "a zip archive of something else": BadInput(
        partial(write, archive({"hello.txt": b"hello"})), r"no data\.pkl.*\n.*hello\.txt\n.*unpack it"
    ),
    "a zipped checkpoint": BadInput(
        partial(write, archive({"model.pth": PICKLED}, zipfile.ZIP_DEFLATED)), r"no data\.pkl.*\n.*model\.pth\n.*unpack"
    ),
    "a compressed archive": BadInput(
        partial(write, archive(records_of(PICKLED), zipfile.ZIP_DEFLATED)), "a compressed archive"
    ),
    "a bomb of zeros": BadInput(
        partial(write, archive({"a/data.pkl": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)), "a compressed archive"
    ),
    "an archive without its pickle": BadInput(change_record("data.pkl", lambda _: None), r"no data\.pkl"),
    "an archive without a storage": BadInput(change_record("data/3", lambda _: None), "truncated, damaged"),
    "an archive with an empty pickle": BadInput(change_record("data.pkl", lambda _: b""), "truncated, damaged"),
    "an archive with a shortened storage": BadInput(
        change_record("data/3", lambda content: content[:-4]), r"other sizes than it stores|truncated, damaged"
    ),
    "an archive with a lengthened storage": BadInput(
        change_record("data/3", lambda content: content + bytes(64)), "other sizes than it stores"
    ),
    "an archive with huge declared shapes": BadInput(change_record("data.pkl", make_huge), "truncated, damaged"),
    "a pickle that ends early": BadInput(change_record("data.pkl", half_of), "truncated, damaged"),
    "a TorchScript archive": BadInput(
        lambda folder: torch.jit.script(nn.Linear(2, 2)).save(str(folder / "bad.pth")), "a TorchScript archive"
    ),
    "a plain pickle": BadInput(partial(write, pickle.dumps({"a": 1})), "not a checkpoint: neither"),
    "another protocol of pickle": BadInput(
        partial(write, saved(tiny(), pickle_protocol=4)), r"safe unpickler does not read|damaged"
    ),
}

SAFETENSORS: dict[str, BadInput] = {
    "safetensors of zero bytes": BadInput(partial(write, b""), "the file is empty"),
    "a header longer than the file": BadInput(partial(write, safetensors_file({}, length=2**60)), "truncated, damaged"),
    "a header that is no JSON": BadInput(partial(write, safetensors_file(b"{nothing at all}")), "truncated, damaged"),
    "huge declared shapes": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})),
        "truncated, damaged",
    ),
    "data that is not there": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8))),
        "truncated, damaged",
    ),
    "an unknown dtype": BadInput(
        partial(write, safetensors_file({"a": {"dtype": "Q3", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
        "truncated, damaged",
    ),
    "no tensors at all": BadInput(partial(write, safetensors_file({})), "holds no state dict, but an empty mapping"),
}

CODE: dict[str, BadInput] = {
    "a pickle that calls os.system": BadInput(calling("os.system", *RUN), r"wants to run code.*\n.*posix\.system"),
    "one of the old format": BadInput(
        lambda folder: write(legacy({"a": Calls("os.system", *RUN)}), folder), r"wants to run code.*\n.*posix\.system"
    ),
    "a pickle that evaluates": BadInput(calling("builtins.eval", "open('ran', 'w')"), r"code.*\n.*builtins\.eval"),
    "a pickle that executes": BadInput(calling("builtins.exec", "open('ran', 'w')"), r"code.*\n.*builtins\.exec"),
    "a pickle that imports": BadInput(calling("builtins.__import__", "os"), r"code.*\n.*builtins\.__import__"),
    "a pickle that opens a file": BadInput(calling("builtins.open", "ran", "w"), r"code.*\n.*io\.open"),
    "a pickle that starts a process": BadInput(
        calling("subprocess.check_call", ["touch", "ran"]), r"code.*\n.*subprocess"
    ),
    "a pickle that copies files": BadInput(
        calling("shutil.copy", "/etc/hostname", "ran"), r"code.*\n.*shutil\.copyfile|code.*\n.*shutil\.copy"
    ),
    "a pickle that loads another": BadInput(
        calling("torch.load", "other.pth"), r"code.*\n.*torch\.(serialization\.)?load"
    ),
    "a pickle that loads a library": BadInput(calling("ctypes.CDLL", "ran.so"), r"code.*\n.*ctypes\.CDLL"),
    "a pickle that runs a module": BadInput(calling("runpy.run_path", "ran.py"), r"code.*\n.*runpy\.run_path"),
}

CONTENT: dict[str, BadInput] = {
    "an empty mapping": BadInput(holding({}), "holds no state dict, but an empty mapping"),
    "a list": BadInput(holding([1, 2]), "holds no state dict, but a list"),
    "a lone tensor": BadInput(holding(torch.zeros(3)), "holds no state dict, but a Tensor"),
    "an empty model": BadInput(holding({"model": {}}), r"\['model'\]: holds no state dict, but an empty mapping"),
    "an optimizer's state alone": BadInput(
        holding({"optimizer": {"state": {}}, "epoch": 1}),
        r"2 of 2 entries are not tensors.*\n.*\n.*\n.*under one of: teacher",
    ),
    "a pickled model": BadInput(holding(nn.Linear(2, 2)), "a pickled model: its code is needed"),
    "numbers for keys": BadInput(holding({1: torch.zeros(1)}), r"1 of 1 entries are not tensors.*\n.*1: a Tensor"),
    "a state dict in itself": BadInput(holding(nest_in_itself()), "holds itself"),
    "four hundred entries deep": BadInput(holding(nest_deeply()), "not a state dict|truncated, damaged|does not read"),
    "an array of numpy's": BadInput(
        with_tensor("norm.bias", np.zeros(32)), r"1 of 49 entries are not tensors.*\n.*'norm\.bias'"
    ),
    "an array of objects": BadInput(
        with_tensor("norm.bias", np.array([None, 1], dtype=object)), r"entries are not tensors.*\n.*'norm\.bias'"
    ),
    "an entry that is not there": BadInput(
        holding({"teacher": tiny(), "student": tiny()}),
        r"no entry 'ema'.*\n.*teacher\n.*student",
        options={"entry": "ema"},
    ),
    "a file of the head alone": BadInput(
        holding({"weight": torch.zeros(5, 64), "bias": torch.zeros(5)}),
        r"2 keys that belong to no known family.*\n.*weight",
    ),
    "a model of another family": BadInput(
        holding({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(10)}),
        r"no known family.*\n.*conv1\.weight",
    ),
    "an unknown prefix": BadInput(
        holding({f"vit.trunk.{key}": tensor for key, tensor in tiny().items()}),
        r"every key begins with 'vit\.trunk\.'.*\n(.*\n)*.*--entry vit\.trunk",
    ),
}

TENSORS: dict[str, BadInput] = {
    "a tensor without values": BadInput(with_tensor(WEIGHT, torch.empty(128, 32, device="meta")), rf"{WEIGHT}: on the meta device"),
    "a tensor that repeats one value": BadInput(with_tensor(WEIGHT, torch.zeros(1).expand(128, 32)), rf"{WEIGHT}: \(128, 32\), expanded from 4 bytes"),
    "a tensor of a million million": BadInput(
        with_tensor(WEIGHT, torch.zeros(1).expand(10**6, 10**6)), rf"{WEIGHT}: .*expanded from 4 bytes"
    ),
    "complex weights": BadInput(with_tensor(WEIGHT, torch.zeros(128, 32, dtype=torch.complex64)), rf"{WEIGHT}: not a dense floating-point tensor"),
    "integer weights": BadInput(with_tensor(WEIGHT, torch.zeros(128, 32, dtype=torch.int8)), rf"{WEIGHT}: not a dense .*int8"),
    "weights of eight bits": BadInput(with_tensor(WEIGHT, torch.zeros(128, 32).to(torch.float8_e4m3fn)), rf"{WEIGHT}: not a dense .*float8"),
    "sparse weights": BadInput(with_tensor(WEIGHT, torch.zeros(128, 32).to_sparse()), rf"{WEIGHT}: not a dense .*sparse_coo"),
    "weights in compressed rows": BadInput(with_tensor(WEIGHT, compress_rows(torch.ones(128, 32))), rf"{WEIGHT}: not a dense .*sparse_csr"),
    "quantized weights": BadInput(with_tensor(WEIGHT, quantize(torch.zeros(128, 32))), rf"{WEIGHT}: not a dense .*qint8"),
    "not a number": BadInput(with_tensor("norm.bias", torch.full((32,), torch.nan)), r"norm\.bias: 32 of 32 values are NaN or Inf"),
    "infinity": BadInput(with_tensor("norm.bias", torch.full((32,), torch.inf).half()), r"norm\.bias: 32 of 32 values are NaN or Inf"),
    "a transposed weight": BadInput(with_tensor(WEIGHT, torch.zeros(32, 128)), rf"wrong shape: {WEIGHT} is \(32, 128\), expected \(128, 32\) \(transposed\?\)"),
    "a weight with a dimension more": BadInput(with_tensor("pos_embed", torch.zeros(1, 1, 26, 32)), r"pos_embed: \(1, 1, 26, 32\), needed with 3"),
    "positions of no square": BadInput(with_tensor("pos_embed", torch.zeros(1, 24, 32)), r"pos_embed \(1, 24, 32\): 23 patch positions do not form a square"),
    "a missing weight": BadInput(without(WEIGHT), rf"missing: {WEIGHT} \(128, 32\)"),
    "a missing block": BadInput(without(*(key for key in tiny() if key.startswith("blocks.1."))), r"blocks\.1\.\*: missing, though there are blocks up to 2"),
    "a missing patch embedding": BadInput(without("patch_embed.proj.weight"), r"patch_embed\.proj\.weight: missing"),
    "a tensor too many": BadInput(with_tensor("blocks.1.extra", torch.zeros(3)), r"unexpected: blocks\.1\.extra \(3,\)"),
    "heads that cannot be told": BadInput(holding(tiny()), r"width of 32 cannot have 0 attention heads.*\n.*--num-attention-heads", num_heads=None),
    "keys that become one without prefixes": BadInput(
        holding({**tiny(), "_orig_mod.norm.bias": torch.zeros(32)}), r"several keys are the same without their prefixes.*\n.*norm\.bias: norm\.bias and _orig_mod"
    ),
    "keys that become one without chunks": BadInput(
        holding({"blocks.0.1.norm1.bias": torch.zeros(1), "blocks.1.1.norm1.bias": torch.zeros(1)}), r"same with their blocks counted through"
    ),
    "weights too large for half precision": BadInput(
        with_tensor("norm.bias", torch.full((32,), 1e5)), r"too large for torch\.float16.*\n.*norm\.bias: 1e\+05", options={"dtype": torch.float16}
    ),
}  # fmt: skip

SHARDS: dict[str, BadInput] = {
    "an index that is no JSON": BadInput(partial(write, b"{", name="a.index.json"), "cannot be read as an index", "a.index.json"),
    "an index without a map": BadInput(partial(write, b"{}", name="a.index.json"), "cannot be read as an index", "a.index.json"),
    "an index of nothing": BadInput(partial(write_shards, weight_map={}), "names no files beside it", "."),
    "an index that leads elsewhere": BadInput(
        partial(write_shards, weight_map={"a": "../../etc/passwd"}), r"names no files beside it.*\n.*etc/passwd", "."
    ),
    "an index that is a list": BadInput(partial(write, b'{"weight_map": [1]}', name="a.index.json"), "cannot be read as an index", "a.index.json"),
    "a shard that is not there": BadInput(
        partial(write_shards, weight_map={**FIRST_KEYS, WEIGHT: "b.safetensors"}, a=tiny()),
        r"1 of 2 shards are not there.*\n.*b\.safetensors",
        ".",
    ),
    "a key that its shard lacks": BadInput(
        partial(write_shards, weight_map={**FIRST_KEYS, "more": "a.safetensors"}, a=tiny()), r"missing: more, which the index has in a\.safetensors", "."
    ),
    "a key that the index lacks": BadInput(
        partial(write_shards, weight_map=FIRST_KEYS, a={**tiny(), "more": torch.zeros(1)}), r"unexpected: more in a\.safetensors", "."
    ),
    "a truncated shard": BadInput(
        lambda folder: [
            write_shards(folder, FIRST_KEYS, a=tiny()),
            write(half_of((folder / "a.safetensors").read_bytes()), folder, "a.safetensors"),
        ],
        r"a\.safetensors: cannot be read; truncated",
        ".",
    ),
}  # fmt: skip

RANKS: dict[str, BadInput] = {
    "one rank file of two": BadInput(
        lambda folder: write_ranks(folder, *cut_in_two(tiny())), r"one rank file of several.*\n.*rank_1\.pth\n.*all of its rank files", "model_0001.rank_0.pth"
    ),
    "ranks with a gap": BadInput(
        lambda folder: [write_ranks(folder, tiny()), write_ranks(folder, tiny(), first=2)], r"rank files are missing.*\n.*rank 1", "."
    ),
    "ranks of two checkpoints": BadInput(
        lambda folder: [write_ranks(folder, tiny(), tiny()), shutil.copy(folder / "model_0001.rank_0.pth", folder / "model_0002.rank_0.pth")],
        r"rank files of several checkpoints.*\n.*model_0001", "*.pth",
    ),
    "a pattern of other files": BadInput(
        lambda folder: [write(PICKLED, folder, name) for name in ("a.pth", "b.pth")], r"not all of them rank files.*\n.*a\.pth", "*.pth"
    ),
    "pieces that do not fit": BadInput(
        lambda folder: write_ranks(folder, tiny(), {**tiny(), WEIGHT: torch.ones(128, 31)}), rf"do not make up one state dict.*\n(.*\n)*.*{WEIGHT}: pieces of shapes", "."
    ),
    "a key that one rank of three lacks": BadInput(
        lambda folder: write_ranks(folder, {"a": torch.ones(2, 2)}, {"a": torch.zeros(2, 2)}, {"b": torch.ones(1)}), r"a: in 2 of 3 rank files, in pieces", "."
    ),
    "DeepSpeed's ZeRO 3": BadInput(holding({"module": {key: tensor.new_zeros(0) for key, tensor in tiny().items()}}), r"all 49 tensors are empty.*\n(.*\n)*.*zero_to_fp32"),
}  # fmt: skip

FOLDERS: dict[str, BadInput] = {
    "a config of another type": BadInput(
        lambda folder: [write(b'{"model_type": "bert"}', folder, "config.json"), save_file(tiny(), folder / "model.safetensors")],
        r"A model of type 'bert' is of no known family", ".",
    ),
    "a config of no type that there is": BadInput(
        lambda folder: [write(b'{"model_type": "nothing"}', folder, "config.json"), save_file(tiny(), folder / "model.safetensors")],
        r"config\.json cannot be read", ".",
    ),
    "a converted model without its weights": BadInput(
        lambda folder: write(b'{"model_type": "dinov2"}', folder, "config.json"), "a folder without a checkpoint in it", "."
    ),
    "a converted model's folder with the original's weights": BadInput(
        lambda folder: [write(b'{"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 3}', folder, "config.json"),
                        save_file(tiny(), folder / "model.safetensors")],
        r"do not cover each other.*\n.*not a target of the key map: (cls_token|blocks)", ".",
    ),
    "the weights of a converted model without its folder": BadInput(
        holding(OrderedDict({"embeddings.cls_token": torch.zeros(1, 1, 32), "encoder.layer.0.norm1.bias": torch.zeros(32)})),
        r"in the layout of transformers already.*\n(.*\n)*.*its whole folder",
    ),
}  # fmt: skip

CORPUS: dict[str, BadInput] = {
    name: bad
    for group in (NO_FILE, DAMAGED, SAFETENSORS, CODE, CONTENT, TENSORS, SHARDS, RANKS, FOLDERS)
    for name, bad in group.items()
}
