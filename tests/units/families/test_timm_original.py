"""timm's own code as the original, held against models that timm makes and writes itself."""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import conversion
from conversion.artifact.load import load_converted
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.families.timm_code import Description
from conversion.families.told import ToldStateDict
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.synthetic import DISTRIBUTIONS, draw_tensor
from conversion.parity.compare import OriginalRun
from conversion.parity.deviations import Deviation
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict, verify_input
from conversion.suite.inputs import InputCase, draw_inputs

LIKE = {**DISTRIBUTIONS, "*reg_token": DISTRIBUTIONS["*_token"]}
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
    "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224, "init_values": 1e-5}),
    "prov-gigapath": ("vit_giant_patch14_dinov2", {"img_size": 224, "patch_size": 16, "init_values": 1e-5}),
}  # fmt: skip
HEADS = {"uni": 16, "uni2-h": 24, "virchow": 16, "h-optimus-0": 24, "prov-gigapath": 24}
WIDTHS = {"uni": 1024, "uni2-h": 1536, "virchow": 1280, "h-optimus-0": 1536, "prov-gigapath": 1536}

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


def write(folder: Path, architecture: str, arguments: dict[str, Any], gamma: float = 1.0) -> Written:
    """A model with weights that matter, written by timm as a folder; layer scales are drawn near ``gamma``."""
    import timm
    from timm.models import save_for_hf

    made = {**arguments, **({"mlp_layer": timm.layers.SwiGLUPacked} if "mlp_layer" in arguments else {})}
    model = timm.create_model(architecture, pretrained=False, num_classes=arguments.get("num_classes", 0), **made)
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


def convert(written: Written, heads: int) -> conversion.Conversion:
    """Convert with this number of heads, whatever the config.json beside it tells of that."""
    read = written.checkpoint.state_dict
    told = {name: each for name, each in read.told.items() if name != "num_attention_heads"}
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(ToldStateDict(read, told, read.writer), num_attention_heads=heads)


def list_verdicts(result: InputVerdict) -> set[Verdict]:
    return {point.verdict for point in result.decisive}


@pytest.mark.parametrize("gamma", [1.0, 1e-5])
@pytest.mark.parametrize("name", PUBLIC)
def test_the_converted_model_is_timms(name: str, gamma: float, tmp_path: Path) -> None:
    written = write(tmp_path, *narrow(name), gamma=gamma)
    for is_described in (True, False):
        result = verify(written, 2, is_described=is_described)
        assert [point.point for point in result.points if not point.difference] == []
        # transformers cuts the fused projection of SwiGLU in two, and so rounds otherwise
        allowed = {Verdict.EXACT} if name == "uni" else {Verdict.EXACT, Verdict.CLOSE}
        assert list_verdicts(result) <= allowed
    assert list_verdicts(verify(written, 2, "eager")) <= {Verdict.EXACT, Verdict.CLOSE}


@pytest.mark.parametrize("name", ["uni", "uni2-h"])
def test_another_size_differs_by_the_antialias_of_timm_alone(name: str, tmp_path: Path) -> None:
    written = write(tmp_path, *narrow(name))
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    result = verify(written, 2, height=3 * patch)
    assert list_verdicts(result) <= {Verdict.EXACT, Verdict.CLOSE}
    assert result.verdict in ({Verdict.DEVIATION} if name == "uni" else {Verdict.EXACT, Verdict.CLOSE})


@pytest.mark.parametrize("name", ["uni", "uni2-h"])
def test_the_original_is_timms_model(name: str, tmp_path: Path) -> None:
    """Whatever makes it take and return what the bundled original does changes nothing."""
    written = write(tmp_path, *narrow(name))
    original = load(written)
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    pixel_values = torch.randn(2, 3, 5 * patch, 5 * patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens, expected = join(original(pixel_values)), written.model.forward_features(pixel_values)  # type: ignore[operator]
    assert is_bit_equal(tokens, expected)
    assert original.state_dict().keys() == written.model.state_dict().keys()
    with pytest.raises(ValueError, match="no mask token"):
        original(pixel_values, torch.zeros(2, 25, dtype=torch.bool))


@pytest.mark.parametrize("name", ["uni", "uni2-h"])
@pytest.mark.parametrize("grid", [(5, 5), (3, 3), (3, 5)])
def test_a_counterfactual_resamples_as_told(name: str, grid: tuple[int, int], tmp_path: Path) -> None:
    """Set to what timm does by a hair's breadth, the adapter's own step gives what timm's gives."""
    written = write(tmp_path, *narrow(name))
    original: Any = load(written)
    patch = written.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    pixel_values = torch.randn(1, 3, grid[0] * patch, grid[1] * patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        timms = join(original(pixel_values))
        original.interpolate_offset = -0.0 + 1e-12
        assert torch.allclose(join(original(pixel_values)), timms, atol=1e-4)
        original.interpolate_antialias = False
        original.interpolate_offset = 0.0
        blurred = join(original(pixel_values))
    assert is_bit_equal(blurred, timms) == (grid == (5, 5))


def load(written: Written) -> nn.Module:
    out = convert(written, 2)
    assert written.checkpoint.untranslated is not None
    return load_family("dinov2").load_timm(out.spec, written.checkpoint.untranslated, written.description)


def join(outputs: dict[str, Tensor]) -> Tensor:
    return torch.cat(
        (outputs["x_norm_clstoken"].unsqueeze(1), outputs["x_norm_regtokens"], outputs["x_norm_patchtokens"]), 1
    )


def test_a_wrong_number_of_heads_fails_at_the_first_attention(tmp_path: Path) -> None:
    """Width 1280 has 20 heads of the usual width; Virchow's are 16."""
    architecture, arguments = PUBLIC["virchow"]
    written = write(tmp_path, architecture, {**arguments, "depth": 1, "img_size": 42})
    result = verify(written, 20)
    failed = [point.point for point in result.points if point.verdict is Verdict.FAILED]
    assert failed[0] == "block.0.attention"
    assert list_verdicts(verify(written, 16)) <= {Verdict.EXACT, Verdict.CLOSE}
    # without its config.json timm's class is built with the heads that were told, and the two agree
    assert list_verdicts(verify(written, 20, is_described=False)) <= {Verdict.EXACT, Verdict.CLOSE}


def test_a_described_activation_is_timms_own(tmp_path: Path) -> None:
    """Timm gates with GELU where a config.json names the gated layer, and no activation."""
    architecture, arguments = narrow("virchow")
    del arguments["act_layer"]
    written = write(tmp_path, architecture, arguments)
    with pytest.raises(CheckpointError, match=r"hidden_act: config\.json, vit_huge_.* says 'gelu'; only 'silu' is"):
        convert(written, 2)
    read = written.checkpoint.state_dict
    silent = ToldStateDict(read, {name: each for name, each in read.told.items() if name != "hidden_act"}, read.writer)
    result = verify(replace(written, checkpoint=replace(written.checkpoint, state_dict=silent)), 2)
    assert next(point.point for point in result.points if point.verdict is Verdict.FAILED) == "block.0.mlp"


def test_a_model_of_real_width_is_timms(tmp_path: Path) -> None:
    architecture, arguments = PUBLIC["uni"]
    written = write(tmp_path, architecture, {**arguments, "depth": 4})
    assert list_verdicts(verify(written, HEADS["uni"])) == {Verdict.EXACT}
