"""Small models with parts switched on and off, as the training's config or transformers' own can say it; verified."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import conversion
from conversion.artifact.load import load_model
from conversion.families.base import Family, Spec, load_family, tell_settings
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.settings import list_unused
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.verdict import Verdict
from conversion.state_dicts.convert import Conversion
from conversion.suite.inputs import list_inputs
from tests.support.runs import run_original, verify_input

PLAIN = Dinov2Spec(
    embed_dim=128, depth=2, num_heads=2, ffn="mlp", num_register_tokens=0, patch_size=14, image_size=70, num_classes=0,
    interpolate_offset=0.1, interpolate_antialias=False,
)  # fmt: skip
# whose hidden layer is a whole number of vectors wide: else torch takes SiLU of its last columns otherwise
GATED = replace(PLAIN, ffn="swiglu", mlp_ratio=3)
WITH_REGISTERS = replace(PLAIN, num_register_tokens=4, interpolate_offset=0.0, interpolate_antialias=True)
PRETRAINED = Data2VecVisionSpec(
    embed_dim=128, depth=2, num_heads=2, hidden_dim=512, patch_size=16, image_size=64, task="backbone",
    shared_position_bias=True, mask_token=True, image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5),
)  # fmt: skip
CLASSIFIER = replace(
    PRETRAINED, task="image-classification", mean_pooling=True, num_classes=7, shared_position_bias=False,
    block_position_bias=True, mask_token=False,
)  # fmt: skip
WITHOUT_BIASES = {"qkv_bias": False, "proj_bias": False, "ffn_bias": False}
ALL_OFF: dict[str, Any] = {**WITHOUT_BIASES, "layer_scale": False}

MODELS: dict[str, Spec] = {
    "one channel":              replace(PLAIN, num_channels=1),
    "five channels, registers": replace(WITH_REGISTERS, num_channels=5),
    "a classifier of four":     replace(PLAIN, num_channels=4, num_classes=6),
    "ratio 2":                  replace(PLAIN, mlp_ratio=2),
    "ratio 3, gated":           GATED,
    "ratio 6, gated":           replace(GATED, mlp_ratio=6),
    "no qkv bias":              replace(PLAIN, qkv_bias=False),
    "no proj bias":             replace(PLAIN, proj_bias=False),
    "no ffn bias":              replace(PLAIN, ffn_bias=False),
    "no ffn bias, gated":       replace(GATED, ffn_bias=False),
    "no layer scale":           replace(PLAIN, layer_scale=False),
    "nothing of it":            replace(WITH_REGISTERS, **ALL_OFF),
    "nothing of it, gated":     replace(GATED, **ALL_OFF, num_classes=6),
    "no mask token":            replace(PLAIN, mask_token=False),
    "a BEiT of one channel":    replace(PRETRAINED, num_channels=1, image_mean=None, image_std=None),
    "any hidden width":         replace(PRETRAINED, hidden_dim=200),
    "BEiT, no layer scale":     replace(PRETRAINED, layer_scale=False),
    "BEiT, no qkv bias":        replace(PRETRAINED, qkv_bias=False),
    "BEiT's CLS token pooled":  replace(CLASSIFIER, mean_pooling=False),
    "BEiT's, nothing of it":    replace(CLASSIFIER, mean_pooling=False, layer_scale=False, qkv_bias=False),
    "BEiT, absolute positions": replace(CLASSIFIER, absolute_positions=True, layer_scale=False),
}  # fmt: skip


def family_of(spec: Spec) -> Family[Any]:
    """The family of a spec."""
    return load_family("dinov2" if isinstance(spec, Dinov2Spec) else "data2vec_vision")


def draw(spec: Spec, name: str = "switched") -> dict[str, Tensor]:
    """An original of this spec with drawn weights."""
    return draw_state_dict(family_of(spec), spec, name, 0)


def tell(spec: Spec) -> dict[str, Any]:
    """What a user of such a model tells."""
    family = family_of(spec)
    told = tell_settings(family, spec)
    has_tables = getattr(spec, "shared_position_bias", False) or getattr(spec, "block_position_bias", False)
    unused = {*list_unused(spec.num_channels), *({"num_attention_heads"} if has_tables else ())}
    return {name: value for name, value in told.items() if name not in unused}


def write(spec: Spec, folder: Path) -> Path:
    """Write such a model as its training does: DINOv2's under a teacher's backbone, BEiT's in its own container."""
    family, tensors = family_of(spec), draw(spec)
    if family.name != "dinov2":
        content: Any = family.training.pack(spec, tensors)
    elif getattr(spec, "num_classes"):  # noqa: B009 (a protocol's)
        content = tensors
    else:
        content = {"teacher": {f"backbone.{key}": tensor for key, tensor in tensors.items()}}
    torch.save(content, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def convert(path: Path, spec: Spec, **given: Any) -> Conversion:
    """Convert a file with what its user tells of it."""
    with warnings.catch_warnings(action="ignore"):
        labels = [f"class {index}" for index in range(spec.num_classes)] or None
        return conversion.convert(conversion.load_checkpoint(path), labels=labels, **{**tell(spec), **given})


def verify(out: Conversion, model: nn.Module, original: nn.Module) -> dict[str, set[Verdict]]:
    """The verdicts at every input of a model of this kind, but for the photo and what is baked."""
    family, attention = load_family(out.family), load_family(out.family).choose_attention()
    verdicts: dict[str, set[Verdict]] = {}
    for case in list_inputs(out.spec, out.input_size, None):
        if case.photo or case.baked:
            continue
        run = run_original(family, out.spec, original, case)
        result = verify_input(case.name, run, model, family.find_deviation(out.spec, case.shape, "float32", attention))
        verdicts[case.name] = {point.verdict for point in result.points}
    return verdicts


def load(out: Conversion, folder: Path) -> nn.Module:
    """The artifact in a folder, with the attention that is exact."""
    model: nn.Module = load_model(folder, attention=load_family(out.family).choose_attention())
    return model
