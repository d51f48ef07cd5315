"""Files that belong together and do not go together."""

import shutil
from collections import OrderedDict
from functools import partial

import torch
from safetensors.torch import save_file

from tests.support.corpus.making import (
    FIRST_KEYS,
    PICKLED,
    WEIGHT,
    BadInput,
    configured,
    cut_in_two,
    half_of,
    holding,
    write,
    write_ranks,
    write_shards,
)
from tests.support.golden import tiny

MODEL = "model.safetensors"

DTYPES = (torch.float32, torch.float16)

SHARDS: dict[str, BadInput] = {
    "an index that is no JSON": BadInput(
        partial(write, b"{", name="a.index.json"), "cannot be read as an index", "a.index.json"
    ),
    "an index without a map": BadInput(
        partial(write, b"{}", name="a.index.json"), "cannot be read as an index", "a.index.json"
    ),
    "an index of nothing": BadInput(partial(write_shards, weight_map={}), "names no files beside it", "."),
    "an index that leads elsewhere": BadInput(
        partial(write_shards, weight_map={"a": "../../etc/passwd"}), r"names no files beside it.*\n.*etc/passwd", "."
    ),
    "an index that is a list": BadInput(
        partial(write, b'{"weight_map": [1]}', name="a.index.json"), "cannot be read as an index", "a.index.json"
    ),
    "a shard that is not there": BadInput(
        partial(write_shards, weight_map={**FIRST_KEYS, WEIGHT: "b.safetensors"}, a=tiny()),
        r"1 of 2 shards are not there.*\n.*b\.safetensors",
        ".",
    ),
    "a key that its shard lacks": BadInput(
        partial(write_shards, weight_map={**FIRST_KEYS, "more": "a.safetensors"}, a=tiny()),
        r"missing: more, which the index has in a\.safetensors",
        ".",
    ),
    "a key that the index lacks": BadInput(
        partial(write_shards, weight_map=FIRST_KEYS, a={**tiny(), "more": torch.zeros(1)}),
        r"unexpected: more in a\.safetensors",
        ".",
    ),
    "several indices": BadInput(
        lambda folder: [write(b"{}", folder, f"{name}.safetensors.index.json") for name in "ab"],
        r"several indices of shards in it.*\n.*a\.safetensors.*\n.*b\..*\n.*inspect \S*b\.safetensors\.index\.json$",
        ".",
    ),
    "a truncated shard": BadInput(
        lambda folder: [
            write_shards(folder, FIRST_KEYS, a=tiny()),
            write(half_of((folder / "a.safetensors").read_bytes()), folder, "a.safetensors"),
        ],
        r"a\.safetensors: cannot be read; truncated",
        ".",
    ),
}

RANKS: dict[str, BadInput] = {
    "one rank file of two": BadInput(
        lambda folder: write_ranks(folder, *cut_in_two(tiny())),
        r"one rank file of several.*\n.*rank_1\.pth\nGive all: vision-parity inspect '\S*rank_\*\.pth'$",
        "model_0001.rank_0.pth",
    ),
    "one rank file of two, by a pattern": BadInput(
        lambda folder: write_ranks(folder, *cut_in_two(tiny())),
        r"one rank file of several.*\n.*rank_1\.pth\nGive all: ",
        "model_0001.rank_0*",
    ),
    "ranks with a gap": BadInput(
        lambda folder: [write_ranks(folder, tiny()), write_ranks(folder, tiny(), first=2)],
        r"rank files are missing.*\n.*rank 1\nCopy them beside the others",
        ".",
    ),
    "ranks of two checkpoints": BadInput(
        lambda folder: [
            write_ranks(folder, tiny(), tiny()),
            shutil.copy(folder / "model_0001.rank_0.pth", folder / "model_0002.rank_0.pth"),
        ],
        r"rank files of several checkpoints.*\n.*model_0001",
        "*.pth",
    ),
    "a pattern of other files": BadInput(
        lambda folder: [write(PICKLED, folder, name) for name in ("a.pth", "b.pth")],
        r"not all of them rank files.*\n.*a\.pth",
        "*.pth",
    ),
    "pieces that do not fit": BadInput(
        lambda folder: write_ranks(folder, tiny(), {**tiny(), WEIGHT: torch.ones(128, 31)}),
        rf"do not make up one state dict.*\n(.*\n)*.*{WEIGHT}: pieces of shapes",
        ".",
    ),
    "a key that one rank of three lacks": BadInput(
        lambda folder: write_ranks(folder, {"a": torch.ones(2, 2)}, {"a": torch.zeros(2, 2)}, {"b": torch.ones(1)}),
        r"a: in 2 of 3 rank files, in pieces",
        ".",
    ),
    "ranks whose models lie elsewhere": BadInput(
        lambda folder: [
            torch.save({"model": half, **more}, folder / f"model.rank_{rank}.pth")
            for rank, (half, more) in enumerate(zip(cut_in_two(tiny()), ({"model_ema": tiny()}, {}), strict=True))
        ],
        r"models lie in different entries.*\n.*rank_0\.pth: model_ema\n.*rank_1\.pth: model\n.*--entry",
        ".",
    ),
    "ranks of sparse tensors": BadInput(
        lambda folder: write_ranks(folder, *(dict.fromkeys(["a.b", "c"], torch.eye(2).to_sparse()) for _ in range(2))),
        r"a\.b: not a dense .*sparse_coo",
        ".",
    ),
    "a folder among rank files": BadInput(
        lambda folder: [torch.save(tiny(), folder / "m.rank_0.pth"), (folder / "m.rank_1.pth").mkdir()],
        r"m\.rank_1\.pth: is a folder\.\nGive that folder alone: \S*m\.rank_1\.pth",
        "m.rank_*.pth",
    ),
    "two files of one rank": BadInput(
        lambda folder: [
            torch.save(tiny(), folder / name) for name in ("m.rank_0.pth", "m.rank_1.pth", "m.rank_01.pth")
        ],
        r"several files of one rank",
        ".",
    ),
    "pieces of two dtypes": BadInput(
        lambda folder: write_ranks(
            folder,
            *(
                {k: v.to(dtype) for k, v in half.items()}
                for half, dtype in zip(cut_in_two(tiny()), DTYPES, strict=True)
            ),
        ),
        r"pieces of torch\.float16 and torch\.float32",
        ".",
    ),
    "two models in one folder": BadInput(
        lambda folder: [save_file(tiny(), folder / name) for name in (MODEL, "model_1.safetensors")],
        r"several checkpoints in it.*\n.*model\.safetensors\n.*model_1",
        ".",
    ),
    "DeepSpeed's ZeRO 3": BadInput(
        holding({"module": {key: tensor.new_zeros(0) for key, tensor in tiny().items()}}),
        r"all 49 tensors are empty.*\n(.*\n)*.*zero_to_fp32",
    ),
}

FOLDERS: dict[str, BadInput] = {
    "a model of another type in transformers' layout": BadInput(
        configured(b'{"model_type": "bert"}', {"bert.embeddings.weight": torch.zeros(2), "cls.bias": torch.zeros(2)}),
        r"its config\.json says model_type 'bert'; the types that are known here are dinov2, .*data2vec-vision",
        ".",
    ),
    "a config that wants its own code to be run": BadInput(
        lambda folder: [
            write(b'{"model_type": "foreign", "auto_map": {"AutoConfig": "evil.Config"}}', folder, "config.json"),
            write(b"open('ran', 'w')", folder, "evil.py"),
            save_file({"a.weight": torch.zeros(2), "b.bias": torch.zeros(2)}, folder / MODEL),
        ],
        r"2 keys that belong to no known family",
        ".",
    ),
    "a config of nonsense": BadInput(
        configured(b'{"model_type": "dinov2", "id2label": 5}', tiny()),
        r"config\.json: is not what transformers reads.*\n.*Error",
        ".",
    ),
    "a config of architectures that are a number": BadInput(
        configured(b'{"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 3, "architectures": 5}', tiny()),
        r"its config\.json or a file beside it cannot be read.*\n.*TypeError.*\n.*were saved together\.$",
        ".",
    ),
    "a config of a thousand million blocks": BadInput(
        configured(b'{"model_type": "dinov2", "num_hidden_layers": 1000000000}', tiny()),
        r"its config\.json tells of 1000000000 blocks; there are 49 tensors",
        ".",
    ),
    "a converted model without its weights": BadInput(
        lambda folder: write(b'{"model_type": "dinov2"}', folder, "config.json"),
        r"a folder of transformers without weights in it.*\n.*config\.json\nCopy model\.safetensors",
        ".",
    ),
    "a converted model's folder with the original's weights": BadInput(
        configured(b'{"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 3}', tiny()),
        r"has other keys than its config tells.*\n.*unexpected: (cls_token|blocks)",
        ".",
    ),
    "the weights of a converted model without its folder": BadInput(
        holding(
            OrderedDict({"embeddings.cls_token": torch.zeros(1, 1, 32), "encoder.layer.0.norm1.bias": torch.zeros(32)})
        ),
        r"in the layout of transformers already.*\n(.*\n)*.*vision-parity compare ORIGINAL",
    ),
}
