"""Files that can be opened, and hold something else than a model."""

import numpy as np
import torch
from torch import nn

from tests.support.corpus.making import (
    WEIGHT,
    BadInput,
    compress_rows,
    holding,
    nest_deeply,
    nest_in_itself,
    quantize,
    with_tensor,
    without,
)
from tests.support.golden import tiny

OTHER = {"depth_head.projects.0.weight": torch.ones(4, 32, 1, 1)}
"""What lies beside a backbone, of no known family."""


def adapt(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As PEFT's model with LoRA on its projections has them: under a prefix, what is wrapped as ``base_layer``."""
    adapted = {}
    for key, tensor in state_dict.items():
        module, _, name = key.rpartition(".")
        is_wrapped = module.endswith(".attn.qkv")
        adapted[f"base_model.model.{module}{'.base_layer' * is_wrapped}.{name}".replace("..", ".")] = tensor
        if is_wrapped and name == "weight":
            for side, shape in (("A", (8, tensor.shape[1])), ("B", (tensor.shape[0], 8))):
                adapted[f"base_model.model.{module}.lora_{side}.default.weight"] = torch.ones(shape)
    return adapted


CONTENT: dict[str, BadInput] = {
    "an empty mapping": BadInput(holding({}), "holds no state dict, but an empty mapping"),
    "a list": BadInput(holding([1, 2]), "holds no state dict, but a list"),
    "a lone tensor": BadInput(holding(torch.zeros(3)), "holds no state dict, but a Tensor"),
    "an empty model": BadInput(holding({"model": {}}), r"\['model'\]: holds no state dict, but an empty mapping"),
    "an optimizer's state alone": BadInput(
        holding({"optimizer": {"state": {}}, "epoch": 1}),
        r"2 of 2 entries are not tensors.*\n.*\n.*\n.*save the state dict alone",
    ),
    "a pickled model": BadInput(holding(nn.Linear(2, 2)), "a pickled model: its code is needed"),
    "numbers for keys": BadInput(holding({1: torch.zeros(1)}), r"1 of 1 entries are not tensors.*\n.*1: a Tensor"),
    "a state dict in itself": BadInput(holding(nest_in_itself()), "more than 16 deep in each other"),
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
        r"a linear head \(5, 64\), and no model.\nGive it beside its backbone: .*--linear-head",
    ),
    "a model of another family": BadInput(
        holding({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(10)}),
        r"no known family.*\n.*conv1\.weight",
    ),
    "a model under each of two prefixes": BadInput(
        holding({f"{name}.trunk.{key}": tensor + len(name) for name in ("a", "bc") for key, tensor in tiny().items()}),
        r"nothing says which is meant.*\n.*--entry a\.trunk\n.*--entry bc\.trunk\n",
    ),
    "a model in each of two entries": BadInput(
        holding({"run_1": tiny(), "run_2": tiny()}),
        r"nothing says which is meant.*\n.*--entry run_1\n.*--entry run_2\n",
    ),
    "a model under a prefix, and not all of it": BadInput(
        holding({f"encoder.{key}": tensor for key, tensor in tiny().items() if key != "norm.bias"} | OTHER),
        r"the model under 'encoder\.' is not whole.*\n.*missing: encoder\.norm\.bias \(32,\)\n",
    ),
    "registers beside a model that has none": BadInput(
        holding(
            {f"backbone.{key}": tensor for key, tensor in tiny().items()} | {"register_tokens": torch.ones(1, 4, 32)}
        ),
        r"registers lie beside the model.*\n.*register_tokens\n.*take it without them: --entry backbone$",
    ),
    "LoRA beside what it adapts": BadInput(
        holding(adapt(tiny())), r"adapters of PEFT.*\n(.*\n)*.*merge_and_unload\(\)"
    ),
    "LoRA alone": BadInput(
        holding({key: tensor for key, tensor in adapt(tiny()).items() if ".lora_" in key}), r"adapters of PEFT"
    ),
    "DINOv3's rotary positions, of no base": BadInput(
        holding(
            {key: tensor for key, tensor in tiny().items() if key != "pos_embed"}
            | {"storage_tokens": torch.ones(1, 4, 32), "rope_embed.periods": torch.ones(4)}
        ),
        r"These buffers of a DINOv3 model .*\n.*rope_embed\.periods: \[1\.0, 1\.0, .*, which are no powers of one base",
    ),
    "DINOv3's ConvNeXt": BadInput(
        holding(
            {
                "downsample_layers.0.0.weight": torch.ones(96, 3, 4, 4),
                "stages.0.0.dwconv.weight": torch.ones(96, 1, 7, 7),
            }
        ),
        r"a checkpoint of DINOv3's ConvNeXt, .*\n.*stages\.0\.0\.dwconv\.weight",
    ),
    "timm's DINOv3": BadInput(
        holding(
            {
                key: torch.ones(shape)
                for key, shape in {
                    "cls_token": (1, 1, 32),
                    "reg_token": (1, 4, 32),
                    "patch_embed.proj.weight": (32, 3, 16, 16),
                    "blocks.0.gamma_1": (32,),
                    "blocks.0.gamma_2": (32,),
                    "blocks.0.attn.qkv.weight": (96, 32),
                }.items()
            }
        ),
        r"timm's with rotary positions, .*\n.*cls_token .*\n.*reg_token .*\n.*blocks\.0\.gamma_1.*\n.*config\.json",
    ),
    "bitsandbytes' eight bits": BadInput(
        holding(tiny() | {WEIGHT: torch.ones(128, 32, dtype=torch.int8), "blocks.0.mlp.fc1.SCB": torch.ones(128)}),
        r"a quantized checkpoint, .*\n.*fc1\.SCB \(128,\)\n.*only together with their scales.*dequantize",
    ),
    "a prefix beside an epoch": BadInput(
        holding(
            {f"module.{key}": tensor for key, tensor in tiny().items()} | {"n_averaged": torch.tensor(3), "epoch": 1}
        ),
        r"1 of 51 entries are not tensors.*\n.*'epoch'.*\nGive --entry module: ",
    ),
    "a pickled model in an entry": BadInput(
        holding({"model": nn.Linear(2, 2)}), r"'model': a \S+Linear \(a pickled model: its code is needed"
    ),
    "MAE's pretraining": BadInput(
        holding({"decoder_pos_embed": torch.ones(1, 5, 32), "cls_token": torch.ones(1, 1, 32)}), r"MAE's pretraining"
    ),
}

TENSORS: dict[str, BadInput] = {
    "a tensor without values": BadInput(
        with_tensor(WEIGHT, torch.empty(128, 32, device="meta")), rf"{WEIGHT}: on the meta device"
    ),
    "a tensor that repeats one value": BadInput(
        with_tensor(WEIGHT, torch.zeros(1).expand(128, 32)), rf"{WEIGHT}: \(128, 32\), expanded from 4 bytes"
    ),
    "a tensor of a million million": BadInput(
        with_tensor(WEIGHT, torch.zeros(1).expand(10**6, 10**6)), rf"{WEIGHT}: .*expanded from 4 bytes"
    ),
    "complex weights": BadInput(
        with_tensor(WEIGHT, torch.zeros(128, 32, dtype=torch.complex64)),
        rf"{WEIGHT}: not a dense floating-point tensor",
    ),
    "integer weights": BadInput(
        with_tensor(WEIGHT, torch.zeros(128, 32, dtype=torch.int8)), rf"{WEIGHT}: integers .*int8"
    ),
    "weights of eight bits": BadInput(
        with_tensor(WEIGHT, torch.zeros(128, 32).to(torch.float8_e4m3fn)), rf"{WEIGHT}: not a dense .*float8"
    ),
    "sparse weights": BadInput(
        with_tensor(WEIGHT, torch.zeros(128, 32).to_sparse()), rf"{WEIGHT}: not a dense .*sparse_coo"
    ),
    "weights in compressed rows": BadInput(
        with_tensor(WEIGHT, compress_rows(torch.ones(128, 32))), rf"{WEIGHT}: not a dense .*sparse_csr"
    ),
    "quantized weights": BadInput(with_tensor(WEIGHT, quantize(torch.zeros(128, 32))), rf"{WEIGHT}: quantized .*qint8"),
    "not a number": BadInput(
        with_tensor("norm.bias", torch.full((32,), torch.nan)), r"norm\.bias: 32 of 32 values are NaN or Inf"
    ),
    "infinity": BadInput(
        with_tensor("norm.bias", torch.full((32,), torch.inf).half()), r"norm\.bias: 32 of 32 values are NaN or Inf"
    ),
    "a transposed weight": BadInput(
        with_tensor(WEIGHT, torch.zeros(32, 128)),
        rf"wrong shape: {WEIGHT} is \(32, 128\), expected \(128, 32\) \(transposed\?\)",
    ),
    "a weight with a dimension more": BadInput(
        with_tensor("pos_embed", torch.zeros(1, 1, 26, 32)), r"pos_embed: \(1, 1, 26, 32\), needed with 3"
    ),
    "positions of no square": BadInput(
        with_tensor("pos_embed", torch.zeros(1, 24, 32)),
        r"pos_embed \(1, 24, 32\): 23 patch positions do not form a square",
    ),
    "a missing weight": BadInput(without(WEIGHT), rf"missing: {WEIGHT} \(128, 32\)"),
    "a missing block": BadInput(
        without(*(key for key in tiny() if key.startswith("blocks.1."))),
        r"blocks\.1\.\*: missing, though there are blocks up to 2",
    ),
    "a missing patch embedding": BadInput(without("patch_embed.proj.weight"), r"patch_embed\.proj\.weight: missing"),
    "a tensor too many": BadInput(
        with_tensor("blocks.1.extra", torch.zeros(3)), r"unexpected: blocks\.1\.extra \(3,\)"
    ),
    "heads that cannot be told": BadInput(
        holding(tiny()), r"num_attention_heads: give --num-attention-heads", num_heads=None
    ),
    "keys that become one without prefixes": BadInput(
        holding({**tiny(), "_orig_mod.norm.bias": torch.zeros(32)}),
        r"several keys are the same without their prefixes.*\n.*norm\.bias: norm\.bias and _orig_mod",
    ),
    "keys that become one without chunks": BadInput(
        holding({"blocks.0.1.norm1.bias": torch.zeros(1), "blocks.1.1.norm1.bias": torch.zeros(1)}),
        r"same with their blocks counted through",
    ),
    "weights too large for half precision": BadInput(
        with_tensor("norm.bias", torch.full((32,), 1e5)),
        r"too large for torch\.float16.*\n.*norm\.bias: 1e\+05",
        options={"dtype": torch.float16},
    ),
}
