"""Hypothesis strategies."""

from itertools import product
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from conversion.families.base import Family, Spec, load_family
from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.depth_architecture.config import DepthSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2_depth.config import Dinov2DepthSpec
from conversion.families.dinov3.config import Dinov3Spec

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


def tensors(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> SearchStrategy[Tensor]:
    """Tensors of random bits' making: seeded normal numbers, with distinct rows."""
    return st.integers(0, 2**32).map(
        lambda seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    )


@st.composite
def fused_tensors(draw: st.DrawFn) -> Tensor:
    """Fused projections: weights ``(3D, D)`` and biases ``(3D,)``."""
    width = draw(st.integers(1, 12))
    return draw(tensors((3 * width, width) if draw(st.booleans()) else (3 * width,), draw(DTYPES)))


OWN_TOKENS = [case for case in product((True, False), (True, False), (0, 1, 4)) if any(case)]
"""Mask token, layer scale and number of registers: without any of them no key is a DINOv2's own."""


@st.composite
def dinov2_specs(draw: st.DrawFn) -> Dinov2Spec:
    """Small DINOv2 models with every combination of features."""
    num_heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([2, 4]))
    patch_size, ffn = draw(st.sampled_from([2, 4])), draw(st.sampled_from(["mlp", "swiglu"]))
    has_mask_token, has_layer_scale, num_registers = draw(st.sampled_from(OWN_TOKENS))
    return Dinov2Spec(
        embed_dim=num_heads * head_dim,
        depth=draw(st.integers(1, 12)),
        num_heads=num_heads,
        ffn=ffn,
        num_register_tokens=num_registers,
        patch_size=patch_size,
        image_size=patch_size * draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from([0, 3])),
        interpolate_offset=draw(st.sampled_from([0.0, 0.1])),
        interpolate_antialias=draw(st.booleans()),
        num_channels=draw(st.sampled_from([3, 1, 5])),
        # so narrow a gated one is as wide by several ratios
        mlp_ratio=draw(st.sampled_from([4, 1, 2, 6])) if ffn == "mlp" else 4,
        mask_token=has_mask_token,
        layer_scale=has_layer_scale,
        qkv_bias=draw(st.booleans()),
        proj_bias=draw(st.booleans()),
        ffn_bias=draw(st.booleans()),
    )


@st.composite
def dinov3_specs(draw: st.DrawFn) -> Dinov3Spec:
    """Small DINOv3 models with every combination of features."""
    num_heads, head_dim, num_tokens = draw(st.integers(1, 3)), draw(st.sampled_from([4, 8])), draw(st.integers(0, 4))
    has_bias = draw(st.booleans())
    return Dinov3Spec(
        embed_dim=num_heads * head_dim,
        depth=draw(st.integers(1, 12)),
        num_heads=num_heads,
        patch_size=draw(st.sampled_from([2, 4])),
        hidden_dim=draw(st.integers(1, 8)),
        is_gated=draw(st.booleans()),
        num_storage_tokens=num_tokens,
        storage_tokens=num_tokens > 0,
        layer_norm_eps=draw(st.sampled_from([1e-5, 1e-6])),
        num_channels=draw(st.sampled_from([3, 1, 5])),
        rope_theta=100.0 if head_dim == 4 else draw(st.sampled_from([100.0, 50.0, 10000.0])),
        qkv_bias=has_bias,
        key_bias=has_bias and draw(st.booleans()),
        proj_bias=draw(st.booleans()),
        ffn_bias=draw(st.booleans()),
        layer_scale=draw(st.booleans()),
        mask_token=draw(st.booleans()),
        local_cls_norm=draw(st.booleans()),
    )


COMMON_TASKS = ("backbone", "image-classification", "semantic-segmentation")
TASKS: dict[type[BeitLikeSpec], tuple[str, ...]] = {
    Data2VecVisionSpec: COMMON_TASKS,
    BeitSpec: (*COMMON_TASKS, "masked-image-modeling"),
}
FAMILIES = {Data2VecVisionSpec: "data2vec_vision", BeitSpec: "beit"}
DEPTH_FAMILIES: dict[type[DepthSpec], str] = {DepthAnythingSpec: "depth_anything", Dinov2DepthSpec: "dinov2_depth"}


@st.composite
def beit_like_specs(draw: st.DrawFn, spec_class: type[BeitLikeSpec]) -> BeitLikeSpec:
    """Small models of BEiT's architecture with every combination of features that a checkpoint may have."""
    num_heads = draw(st.integers(1, 3))
    task = draw(st.sampled_from(TASKS[spec_class]))
    shared, per_block, absolute = draw(st.sampled_from(list(product((False, True), repeat=3))).filter(any))
    has_layer_scale = draw(st.booleans())
    features: dict[str, Any] = {}
    if task == "masked-image-modeling":
        features = {"vocab_size": 5, "num_cls_layers": draw(st.sampled_from([0, 2]))}
    elif task != "backbone":
        features = {"num_classes": 3, "mean_pooling": task == "semantic-segmentation" or draw(st.booleans())}
    if task == "semantic-segmentation":
        features |= {"out_indices": (0, 1, 2, 3), "pool_scales": draw(st.sampled_from([(1, 2, 3, 6), (1, 2)])),
                     "auxiliary_channels": draw(st.sampled_from([0, 2]))}  # fmt: skip
    return spec_class(
        embed_dim=num_heads * draw(st.sampled_from([2, 4])),
        depth=draw(st.integers(4, 6)),
        num_heads=num_heads,
        hidden_dim=draw(st.integers(1, 8)),
        patch_size=2,
        image_size=2 * draw(st.integers(1, 4)),
        task=task,
        shared_position_bias=shared,
        block_position_bias=per_block,
        absolute_positions=absolute,
        mask_token=draw(st.booleans()),
        num_channels=draw(st.sampled_from([3, 1, 5])),
        qkv_bias=draw(st.booleans()),
        layer_scale=has_layer_scale,
        image_mean=(0.5, 0.5, 0.5),
        image_std=draw(st.sampled_from([(0.5, 0.5, 0.5), (0.2, 0.2, 0.3)])),
        **features,
    )


@st.composite
def depth_specs(draw: st.DrawFn, spec_class: type[DepthSpec]) -> DepthSpec:
    """Small DINOv2 with a depth head."""
    depth = draw(st.integers(4, 6))
    own = {"fusion_width": 256, "coarsest_unit": draw(st.booleans())} if spec_class is Dinov2DepthSpec else {}
    backbone = vars(draw(dinov2_specs())) | {"depth": depth, "num_register_tokens": 0, "num_classes": 0}
    kept = {name: value for name, value in backbone.items() if not name.startswith(("interpolate", "apply", "reshape"))}
    features = {
        "out_indices": tuple(sorted(draw(st.permutations(range(depth)))[:4])),
        "neck_widths": tuple(draw(st.integers(1, 3)) for _ in range(4)),
        "fusion_width": 2,
        "max_depth": draw(st.sampled_from([0, 20])),
    }
    return spec_class(**kept | features | own)


@st.composite
def state_dicts(draw: st.DrawFn) -> tuple[Family[Any], Spec, dict[str, Tensor]]:
    """A family, a spec, and an original state dict of it without what is dropped, keys in any order."""
    family, spec = draw(
        st.one_of(
            st.tuples(st.just(load_family("dinov2")), dinov2_specs()),
            st.tuples(st.just(load_family("dinov3")), dinov3_specs()),
            *(st.tuples(st.just(load_family(name)), beit_like_specs(own)) for own, name in FAMILIES.items()),
            *(st.tuples(st.just(load_family(name)), depth_specs(own)) for own, name in DEPTH_FAMILIES.items()),
        )
    )
    like = family.converted_tensors(spec)
    keys = draw(st.permutations(list(like)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    drawn = {key: torch.randn(like[key].shape, generator=generator).to(like[key].dtype) for key in keys}
    return family, spec, drawn | family.fallback(spec)  # buffers have no other values


@st.composite
def floats(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Three numbers of one dtype, any but NaN: zeros of both signs, subnormals and infinities among them."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    number = st.floats(allow_nan=False, width=16 if dtype == torch.float16 else 32)
    return tuple(torch.tensor([draw(number)], dtype=dtype) for _ in range(3))  # type: ignore[return-value]
