"""DINOv3 of timm's, small, written by timm; and what it is converted to, held against timm's own model."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import load_family
from conversion.parity.original_run import OriginalRun
from conversion.parity.verify import InputVerdict
from conversion.suite.inputs import InputCase, draw_inputs
from tests.support.runs import verify_input
from tests.support.timm_models import Written, write

FAMILY = load_family("dinov3")
PLAIN, BIASES = "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"
SMALL: dict[str, Any] = {"embed_dim": 128, "depth": 2, "num_heads": 2, "img_size": 80}

MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (PLAIN, {}),
    "biases": (BIASES, {}),
    "gated": ("vit_small_plus_patch16_dinov3", {}),
    "gated with biases": ("vit_small_plus_patch16_dinov3_qkvb", {}),
    "packed": (PLAIN, {"swiglu_mlp": True}),
    "no registers": (PLAIN, {"num_reg_tokens": 0}),
    "another base": (PLAIN, {"rope_temperature": 10.0}),
}
"""Architecture, and what else is given."""


def make(name: str, folder: Path) -> Written:
    architecture, arguments = MADE[name]
    return write(folder, architecture, {**SMALL, **arguments})


def convert(written: Written) -> conversion.Conversion:
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(written.checkpoint.state_dict)


def load_timm(written: Written) -> nn.Module:
    untranslated = written.checkpoint.untranslated
    assert untranslated is not None
    return FAMILY.load_timm(convert(written).spec, untranslated, written.description)


def verify(written: Written, attention: str = "sdpa", dtype: str = "float32") -> InputVerdict:
    """Hold the converted model against timm's code."""
    out = convert(written)
    inputs = draw_inputs(InputCase("wide", 64, 112, batch=2), 16, 0)
    run_of_timm = OriginalRun(load_timm(written), FAMILY.list_stages(out.spec), inputs, getattr(torch, dtype))
    deviation = FAMILY.find_deviation(out.spec, tuple(inputs.pixel_values.shape), dtype, attention)
    return verify_input("wide", run_of_timm, load_converted(out, attention=attention, dtype=dtype), deviation)


def draw_images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 64, 112, generator=torch.Generator().manual_seed(0)).to(dtype)


def join(outputs: dict[str, Tensor]) -> Tensor:
    return torch.cat(
        (outputs["x_norm_clstoken"].unsqueeze(1), outputs["x_storage_tokens"], outputs["x_norm_patchtokens"]), dim=1
    )
