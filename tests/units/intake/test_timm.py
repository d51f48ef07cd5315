"""Checkpoints of timm's models: timm itself writes them, and computes what the original computes with them."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import conversion
from conversion.families.base import Family, load_family
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.synthetic import DISTRIBUTIONS, draw_tensor
from conversion.parity.metrics import is_bit_equal
from tests.support.golden import read_golden
from tests.units.intake.test_checkpoint import same

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
DINOV2: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": {"img_size": 70},
    "vit_small_patch14_reg4_dinov2": {"img_size": 70},
    "vit_giant_patch14_dinov2": {"img_size": 70, "embed_dim": 48},
    "vit_giant_patch14_reg4_dinov2": {"img_size": 70, "embed_dim": 48},
}
IMAGES: dict[str, Any] = {
    "image_mean": "0.485,0.456,0.406", "image_std": "0.229,0.224,0.225", "crop_pct": 1.0, "interpolation": "bicubic",
}  # fmt: skip
"""What a file alone, without its config.json, does not tell."""

BEIT = "beit_base_patch16_224"


def build(name: str, options: dict[str, Any]) -> nn.Module:
    """A small model of timm's with weights that matter."""
    import timm

    model = timm.create_model(name, pretrained=False, **{**SMALL, **options}).eval().requires_grad_(False)
    drawn = {key: draw_tensor(name, key, tensor, LIKE) for key, tensor in model.state_dict().items()}
    model.load_state_dict(drawn)
    return model


LIKE = {**DISTRIBUTIONS, "*reg_token": DISTRIBUTIONS["*_token"]}


def read(model: nn.Module, path: Path) -> tuple[dict[str, Tensor], str]:
    save_file(model.state_dict(), path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        checkpoint = read_checkpoint(path)
    steps = {step.name: step.did for step in checkpoint.steps}
    if "translate" in steps:
        assert any(steps["translate"] in str(warning.message) for warning in said)
    return checkpoint.state_dict, steps.get("translate", "")


@pytest.mark.parametrize("name", DINOV2)
def test_timms_dinov2_is_recognised_and_is_the_original(name: str, tmp_path: Path) -> None:
    model = build(name, DINOV2[name])
    state_dict, did = read(model, tmp_path / "model.safetensors")
    assert "no mask token" in did
    assert ("position embedding of the CLS token" in did) == ("reg4" in name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = conversion.convert(state_dict, num_attention_heads=2, **IMAGES)
    assert (out.spec.ffn == "swiglu") == ("giant" in name)
    assert out.spec.num_register_tokens == (4 if "reg4" in name else 0)
    original = load_family("dinov2").load_original(out.spec, out.source)
    pixel_values = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens, theirs = original(pixel_values), model.forward_features(pixel_values)
    ours = torch.cat(
        (tokens["x_norm_clstoken"].unsqueeze(1), tokens["x_norm_regtokens"], tokens["x_norm_patchtokens"]), 1
    )
    assert is_bit_equal(ours, theirs)


def test_timms_beit_is_recognised_and_is_the_original(tmp_path: Path) -> None:
    import timm

    timm.layers.set_fused_attn(enable=False)  # the original's own arithmetic
    model = build(BEIT, {"img_size": 64, "num_classes": 5})
    timm.layers.set_fused_attn(enable=True)
    state_dict, did = read(model, tmp_path / "model.safetensors")
    assert did == ""  # its names are the original's
    out = conversion.convert(state_dict, image_mean=(0.5,) * 3, image_std=(0.5,) * 3)
    assert (out.spec.task, out.spec.num_classes, out.spec.mean_pooling) == ("image-classification", 5, True)
    original = load_family("data2vec_vision").load_original(out.spec, out.source)
    pixel_values = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = original(pixel_values)["logits"], model(pixel_values)
    assert is_bit_equal(ours, theirs)


def test_a_file_of_the_originals_is_left_as_it_is() -> None:
    family: Family[Any] = load_family("dinov2")
    for name in ("dinov2_tiny", "dinov2_tiny_reg", "dinov2_tiny_swiglu"):
        golden = read_golden(name)
        state_dict, did = family.translate(golden.backbone)
        assert did == ""
        assert same(state_dict, golden.backbone)


@pytest.mark.parametrize("key", ["mask_token", "pos_embed", "patch_embed.proj.weight"])
def test_a_registers_file_that_lacks_something_is_no_file_of_timms(key: str) -> None:
    golden = read_golden("dinov2_tiny_reg")
    state_dict, did = load_family("dinov2").translate({k: v for k, v in golden.backbone.items() if k != key})
    assert did == ""
    assert key not in state_dict
