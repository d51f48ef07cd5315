"""Models that timm makes and writes itself, as people publish them; and converted models held against them."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import load_family
from conversion.families.timm_code import Description
from conversion.families.told import ToldStateDict
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.synthetic import DISTRIBUTIONS, draw_tensor
from conversion.parity.deviations import Deviation
from conversion.parity.original_run import OriginalRun
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.suite.inputs import InputCase, draw_inputs
from tests.support.runs import verify_input

LIKE = {**DISTRIBUTIONS, **dict.fromkeys(("*reg_token", "*.latent"), DISTRIBUTIONS["*_token"])}
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}

# what their authors write into config.json, or into the code that loads them
PUBLIC: dict[str, tuple[str, dict[str, Any]]] = {
    "uni": ("vit_large_patch16_224", {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True}),
    "uni2-h": ("vit_giant_patch14_224", {
        "img_size": 224, "patch_size": 14, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2, "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True, **SWIGLU,
    }),
    "virchow": ("vit_huge_patch14_224", {
        "img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True,
        **SWIGLU,
    }),
    "virchow2": ("vit_huge_patch14_224", {
        "img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True,
        "reg_tokens": 4, **SWIGLU,
    }),
    "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224, "init_values": 1e-5}),
    "prov-gigapath": ("vit_giant_patch14_dinov2", {"img_size": 224, "patch_size": 16, "init_values": 1e-5}),
}  # fmt: skip
HEADS = {"uni": 16, "uni2-h": 24, "virchow": 16, "virchow2": 16, "h-optimus-0": 24, "prov-gigapath": 24}
WIDTHS = {"uni": 1024, "uni2-h": 1536, "virchow": 1280, "virchow2": 1280, "h-optimus-0": 1536, "prov-gigapath": 1536}

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
"""What of a model is made small."""

DINOV2: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": {"img_size": 70},
    "vit_small_patch14_reg4_dinov2": {"img_size": 70},
    "vit_giant_patch14_dinov2": {"img_size": 70, "embed_dim": 48},
    "vit_giant_patch14_reg4_dinov2": {"img_size": 70, "embed_dim": 48},
}
"""timm's names of DINOv2's sizes; and, of a small model, what else is given."""

RESAMPLED = Deviation(
    "", "", "", "", "", "", original_attributes={"interpolate_offset": 0.0, "interpolate_antialias": False}
)
"""What transformers does to position embeddings without registers, where timm does so with antialias."""


@dataclass(frozen=True)
class Written:
    """A model of timm's, the folder that timm wrote, and what is read from it."""

    model: nn.Module
    checkpoint: Checkpoint
    description: Description


def build(name: str, options: dict[str, Any]) -> nn.Module:
    """A small model of timm's with weights that matter."""
    import timm

    model = timm.create_model(name, pretrained=False, **{**SMALL, **options}).eval().requires_grad_(False)
    drawn = {key: draw_tensor(name, key, tensor, LIKE) for key, tensor in model.state_dict().items()}
    model.load_state_dict(drawn)
    return model


def write(folder: Path, architecture: str, arguments: dict[str, Any], gamma: float = 1.0) -> Written:
    """A model with weights that matter, written by timm as a folder; layer scales are drawn near ``gamma``."""
    import timm
    from timm.models import save_for_hf

    made = {**arguments, **({"mlp_layer": timm.layers.SwiGLUPacked} if "mlp_layer" in arguments else {})}
    model = timm.create_model(architecture, pretrained=False, **{"num_classes": 0, **made})
    model = model.eval().requires_grad_(False)
    for key, tensor in model.state_dict().items():
        drawn = draw_tensor(architecture, key, tensor, LIKE)
        tensor.copy_(drawn * gamma if key.endswith((".gamma", "gamma_1", "gamma_2")) else drawn)
    save_for_hf(model, str(folder), model_args=arguments, safe_serialization=True)
    with warnings.catch_warnings(action="ignore"):
        checkpoint = read_checkpoint(folder)
    return Written(model, checkpoint, json.loads((folder / "config.json").read_text(encoding="utf-8")))


def narrow(name: str) -> tuple[str, dict[str, Any]]:
    """The same model two blocks deep and two heads wide, each head as wide as it was; images of 5 x 5 patches."""
    architecture, arguments = PUBLIC[name]
    patch = arguments.get("patch_size", 16 if "patch16" in architecture else 14)
    width = 2 * WIDTHS[name] // HEADS[name]
    small = {"depth": 2, "num_heads": 2, "embed_dim": width, "img_size": 5 * patch}
    if name != "uni":  # as the authors of DINOv2 make a gated feed-forward: a multiple of 8
        small["mlp_ratio"] = 2 * ((int(8 / 3 * width) + 7) // 8 * 8) / width
    return architecture, {**arguments, **small}


def choose_settings(heads: int) -> dict[str, Any]:
    """What is told of a model by its user: the options of a conversion."""
    return {"num_attention_heads": heads}


def convert(written: Written, heads: int) -> conversion.Conversion:
    """Convert what timm wrote with this number of heads, whatever the config.json beside it tells of that."""
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(leave_out(written, "num_attention_heads"), **choose_settings(heads))


def leave_out(written: Written, setting: str) -> ToldStateDict:
    """The state dict that was read, without what a file told of one setting."""
    read = written.checkpoint.state_dict
    told = {name: each for name, each in read.told.items() if name != setting}
    return ToldStateDict(read, told, read.writer)


def verify(
    written: Written,
    heads: int,
    attention: str = "sdpa",
    height: int = 0,
    *,
    is_described: bool = True,
    **overrides: Any,
) -> InputVerdict:
    """Hold the converted model against timm's code, with the state dict that timm wrote."""
    out = convert(written, heads)
    family, spec = load_family(out.family), out.spec
    untranslated = written.checkpoint.untranslated or written.checkpoint.state_dict
    original = family.load_timm(spec, untranslated, written.description if is_described else None)
    size = height or spec.image_size
    case = InputCase("native" if size == spec.image_size else "other", size, size, batch=2)
    inputs = draw_inputs(case, spec.patch_size, 0)
    run = OriginalRun(original, family.list_stages(spec), inputs, torch.float32)
    deviation = RESAMPLED if size != spec.image_size and not spec.num_register_tokens else None
    return verify_input(case.name, run, load_converted(out, attention=attention), deviation)


def list_verdicts(result: InputVerdict) -> set[Verdict]:
    return {point.verdict for point in result.points}
