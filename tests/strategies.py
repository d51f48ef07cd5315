"""Hypothesis strategies."""

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from conversion.dinov2.config import Dinov2Spec
from conversion.family import load_family

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


@st.composite
def specs(draw: st.DrawFn) -> Dinov2Spec:
    """Small DINOv2 models with every combination of features."""
    num_heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([2, 4]))
    patch_size = draw(st.sampled_from([2, 4]))
    return Dinov2Spec(
        embed_dim=num_heads * head_dim,
        depth=draw(st.integers(1, 12)),
        num_heads=num_heads,
        ffn=draw(st.sampled_from(["mlp", "swiglu"])),
        num_register_tokens=draw(st.sampled_from([0, 1, 4])),
        patch_size=patch_size,
        image_size=patch_size * draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from([0, 3])),
    )


@st.composite
def state_dicts(draw: st.DrawFn) -> tuple[Dinov2Spec, dict[str, Tensor]]:
    """A spec and an original state dict of it, keys in any order."""
    spec = draw(specs())
    shapes = load_family("dinov2").original_shapes(spec)
    keys = draw(st.permutations(list(shapes)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return spec, {key: torch.randn(shapes[key], generator=generator) for key in keys}


@st.composite
def floats(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Three numbers of one dtype, any but NaN: zeros of both signs, subnormals and infinities among them."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    number = st.floats(allow_nan=False, width=16 if dtype == torch.float16 else 32)
    return tuple(torch.tensor([draw(number)], dtype=dtype) for _ in range(3))  # type: ignore[return-value]
