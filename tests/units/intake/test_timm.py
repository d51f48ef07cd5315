"""Checkpoints of timm's models: timm itself writes them, and computes what the original computes with them."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import conversion
from conversion.errors import CheckpointError
from conversion.families.base import Family, load_family
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.metrics import is_bit_equal
from tests.support.checkpoint_files import same
from tests.support.golden import read_golden
from tests.support.timm_models import DINOV2, SMALL, build

IMAGES: dict[str, Any] = {
    "image_mean": "0.485,0.456,0.406", "image_std": "0.229,0.224,0.225", "crop_pct": 1.0, "interpolation": "bicubic",
}  # fmt: skip
"""What a file alone, without its config.json, does not tell."""

BEIT = "beit_base_patch16_224"


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
        gating = {"hidden_act": "silu"} if "giant" in name else {}
        out = conversion.convert(state_dict, num_attention_heads=2, **gating, **IMAGES)
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


# position embeddings of registers, and of the CLS token


def draw_timms(rows: int, registers: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What of timm's state dict tells positions, drawn."""
    like = {"pos_embed": (1, rows, 8), "cls_token": (1, 1, 8), "patch_embed.proj.weight": (8, 3, 14, 14)}
    like |= {"reg_token": (1, registers, 8)} if registers else {}
    generator = torch.Generator().manual_seed(0)
    drawn = {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in like.items()}
    return {**drawn, "blocks.0.ls1.gamma": torch.ones(8, dtype=dtype)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_positions_of_registers_are_added_into_them(dtype: torch.dtype) -> None:
    """The sum is taken as a float32 model takes it, whatever the file's own precision; all others stay as they are."""
    theirs = draw_timms(1 + 4 + 16, 4, dtype)
    ours, did = load_family("dinov2").translate(theirs)
    assert "position embeddings of 4 registers added into these" in did
    assert "restored, they stay added" in did
    rows = theirs["pos_embed"]
    assert is_bit_equal(ours["register_tokens"], theirs["reg_token"].float() + rows[:, 1:5].float())
    assert is_bit_equal(ours["pos_embed"], torch.cat((rows[:, :1], rows[:, 5:]), 1))
    assert is_bit_equal(ours["cls_token"], theirs["cls_token"])


# rows of timm's, registers, rows of the original's, and whether the first is of zeros
@pytest.mark.parametrize(("theirs", "registers", "ours", "is_zero"), [
    (16, 0, 17, True),  # of patches alone
    (17, 0, 17, False),
    (16, 4, 17, True),
    (21, 4, 17, False),
    (20, 4, 20, False),  # no square: left for recognition to refuse
])  # fmt: skip
def test_rows_before_the_patches_are_counted(theirs: int, registers: int, ours: int, is_zero: bool) -> None:
    translated, _ = load_family("dinov2").translate(draw_timms(theirs, registers))
    assert translated["pos_embed"].shape[1] == ours
    assert bool((translated["pos_embed"][:, 0] == 0).all()) == is_zero


def test_rows_that_leave_two_squares_are_told_by_config_json_or_refused(tmp_path: Path) -> None:
    """25 rows beside 8 registers: 5 x 5 patches; or 4 x 4, the CLS token and the registers."""
    from timm.models import save_for_hf

    for no_embed_class, side, rows in ((True, 70, 26), (False, 56, 17)):
        options = {"img_size": side, "reg_tokens": 8, "no_embed_class": no_embed_class, "init_values": 1.0}
        model = build("vit_small_patch14_dinov2", options)
        folder = tmp_path / str(side)
        save_for_hf(model, str(folder), model_args={**SMALL, **options}, safe_serialization=True)
        with warnings.catch_warnings(action="ignore"):
            assert conversion.load_checkpoint(folder)["pos_embed"].shape[1] == rows
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"(?s)25 patches and 0 other.*16 patches and 9 other.*config\.json"):
            conversion.load_checkpoint(folder)


@pytest.mark.parametrize(("options", "named"), [
    ({"global_pool": "avg"}, "fc_norm.weight.*a norm after the pooling"),
    ({"global_pool": "map"}, "attn_pool.*pooling by attention"),
    ({"global_pool": "avg", "num_classes": 0}, "fc_norm.weight.*a norm after the pooling"),
])  # fmt: skip
def test_what_transformers_cannot_pool_is_refused_by_name(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    import timm

    made = {**SMALL, "num_classes": 5, "img_size": 70, **options}
    torch.save(timm.create_model("vit_small_patch14_dinov2", **made).state_dict(), tmp_path / "timm.pth")
    with pytest.raises(CheckpointError, match=f"(?s)timm.pth: timm's model has modules.*{named}.*fc_norm=False"):
        conversion.load_checkpoint(tmp_path / "timm.pth")
