"""Keys of official models, as ``fixtures/golden`` has them: of the originals, and of what official converters made."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from conversion.families.base import load_family
from conversion.families.beit.config import BeitSpec
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.depth_architecture.config import DepthSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.variants import VARIANTS
from tests.support.golden import BEIT, DATA2VEC_VISION, DEPTH, DINOV2, DINOV3, read_golden, read_json

# end of a BEiT's name to that of one that is the same model, of which keys are recorded
SAME_MODEL = {
    "_pt22k_ft1k":      "_pt22k_ft22kto1k",
    "_pt1k_300e":       "_pt1k",
    "_pt1k_ft1k":       "_pt1k_ft21kto1k",
    "_pt1k_300e_ft1k":  "_pt1k_ft21kto1k",
}  # fmt: skip


def find_recorded(name: str) -> str | None:
    """The variant whose keys are recorded for this one's; None of a BEiT with a segmentation head."""
    if VARIANTS[name].family == "depth_anything":
        return f"depth_anything_v2_{name.removesuffix('14')[-4:]}"
    if VARIANTS[name].family == "dinov2_depth":
        return f"{name.rpartition('_')[0].rpartition('_')[0]}_dd"
    if VARIANTS[name].family == "beit" and VARIANTS[name].spec["task"] == "semantic-segmentation":
        return None
    ending = next((ending for ending in SAME_MODEL if name.endswith(ending)), "")
    return name.removesuffix(ending) + SAME_MODEL.get(ending, "")


RECORDED = {name: same for name in VARIANTS if (same := find_recorded(name))}
"""Variant to the one whose keys are recorded for it."""


def read_official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The official files' keys and shapes, backbone and, under its prefix, linear head."""
    recorded = read_json("original_keys.json")
    same = RECORDED[name]
    entry = recorded[VARIANTS[same].backbone if same in VARIANTS else same]
    shapes = {
        key.format(index): tuple(shape)
        for key, shape in entry["keys"].items()
        for index in (range(entry["depth"]) if "{}" in key else (None,))
    }
    head = recorded[f"{name}.linear_head"]["keys"] if "linear_head" in VARIANTS[name].files else {}
    return shapes | {f"linear_head.{key}": tuple(shape) for key, shape in head.items()}


def read_dinov2_keys(spec: Dinov2Spec) -> set[str]:
    """The target's keys at this depth, from what the official converters made of tiny models with these features."""
    with_classes = bool(spec.num_classes)
    tiny = next(
        golden
        for golden in map(read_golden, DINOV2)
        if golden.spec.num_register_tokens == spec.num_register_tokens and bool(golden.linear_head) == with_classes
    )
    keys = read_json("converted_sha256.json")[tiny.name]
    blocks = {key for key in keys if ".layer.0." in key}
    if spec.ffn == "swiglu":
        swiglu = {key for key in read_json("converted_sha256.json")["dinov2_tiny_swiglu"] if ".layer.0.mlp." in key}
        prefix = next(iter(blocks)).partition("encoder.")[0]
        blocks = {key for key in blocks if ".mlp." not in key} | {prefix + key for key in swiglu}
    return repeat_block({key for key in keys if ".layer." not in key} | blocks, spec.depth)


def read_data2vec_vision_keys(spec: Data2VecVisionSpec) -> set[str]:
    """The same; the tiny models of this family have every feature of the official ones."""
    tiny = next(golden for golden in map(read_golden, DATA2VEC_VISION) if golden.spec.task == spec.task)
    keys = read_json("converted_sha256.json")[tiny.name].keys()
    return repeat_block({key for key in keys if ".layer." not in key or ".layer.0." in key}, spec.depth)


def read_beit_keys(spec: BeitSpec) -> set[str]:
    """The same; a segmentation model has the heads of a Data2Vec-Vision, under the names of transformers 4."""
    if spec.task == "semantic-segmentation":
        tiny = read_golden("data2vec_vision_tiny_ade20k")
    else:
        tiny = next(golden for golden in map(read_golden, BEIT) if golden.spec.task == spec.task)
    keys = {key.replace("data2vec_vision.", "beit.", 1) for key in read_json("converted_sha256.json")[tiny.name]}
    return repeat_block({key for key in keys if ".layer." not in key or ".layer.0." in key}, spec.depth)


def read_dinov3_keys(spec: Dinov3Spec) -> set[str]:
    """The same; the largest has no bias of query and value."""
    tiny = next(golden for golden in map(read_golden, DINOV3) if golden.spec.is_gated == spec.is_gated)
    keys = read_json("converted_sha256.json")[tiny.name].keys()
    biases = () if spec.qkv_bias else ("q_proj.bias", "v_proj.bias")
    in_first = {key for key in keys if not key.startswith("layer.") or key.startswith("layer.0.")}
    kept = {key for key in in_first if not key.endswith(biases)}
    return {key.replace("layer.0.", f"layer.{index}.") for key in kept for index in range(spec.depth)}


def repeat_block(keys: set[str], depth: int) -> set[str]:
    """The keys with those of the first block for every block."""
    return {key.replace(".layer.0.", f".layer.{index}.") for key in keys for index in range(depth)}


def read_depth_keys(spec: DepthSpec) -> set[str]:
    """The same; the blocks are those of a plain DINOv2, under a prefix."""
    backbone = {f"backbone.{key}" for key in read_dinov2_keys(spec.backbone)}
    tiny = next(golden for golden in map(read_golden, DEPTH) if golden.spec.hf_class == spec.hf_class)
    return backbone | {key for key in read_json("converted_sha256.json")[tiny.name] if not key.startswith("backbone.")}


READERS: dict[str, Callable[[Any], set[str]]] = {
    "dinov2": read_dinov2_keys,
    "data2vec_vision": read_data2vec_vision_keys,
    "dinov3": read_dinov3_keys,
    "beit": read_beit_keys,
    "depth_anything": read_depth_keys,
    "dinov2_depth": read_depth_keys,
}


def meta(name: str) -> dict[str, Tensor]:
    """An official variant's state dict without values."""
    family = load_family(VARIANTS[name].family)
    return family.original_tensors(family.spec_of(VARIANTS[name]))
