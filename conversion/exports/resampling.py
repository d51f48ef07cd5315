"""Cubic resampling as two matrix products, in place of the operator that a graph has for it.

OpenVINO's takes no antialias, and says nothing: of a ViT-S with registers at 224 pixels, what is returned is off by as
much as 1.4 then. ONNX Runtime's and OpenVINO's reckon where a place lies among the others with a ratio that is rounded
to float32. The further a place lies from the first, the more it is off: of 49, by as much as all other roundings of
the embeddings together. Here the places are fractions of whole numbers.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 2
"""How many places to each side a new place is made of; of more, where antialias makes a line shorter."""

interpolate = F.interpolate


def interpolate_by_products(maps: Tensor, size: Any = None, *others: Any, **options: Any) -> Tensor:
    """What stands in the place of ``torch.nn.functional.interpolate``, which computes all else."""
    if size is None or options.get("mode") != "bicubic" or options.get("align_corners"):
        return interpolate(maps, size, *others, **options)
    return resample(maps, *size, antialias=bool(options.get("antialias")))


def resample(maps: Tensor, height: int, width: int, *, antialias: bool) -> Tensor:
    """``(B, C, h, w)`` to ``(B, C, height, width)``."""
    rows, columns = maps.shape[-2:]
    down, across = (build_weights(*pair, maps, antialias=antialias) for pair in ((rows, height), (columns, width)))
    if not antialias:  # beyond an edge its places go on; with antialias there is nothing
        maps = F.pad(maps, [REACH] * 4, mode="replicate")
    return down @ maps @ across.T


def build_weights(source: int, target: int, like: Tensor, *, antialias: bool) -> Tensor:
    """How much of each place of a line goes into each of the resampled one.

    Args:
        target: may be a symbol.
        like: a tensor of the dtype and on the device to make them for.

    Returns:
        ``(target, source)`` with antialias, else ``(target, REACH + source + REACH)``.
    """
    beyond = 0 if antialias else REACH
    centers = (2 * torch.arange(target, device=like.device) + 1) * source - target  # times 2 * target, as all places
    places = 2 * target * (torch.arange(source + 2 * beyond, device=like.device) - beyond)
    distances = (places - centers.unsqueeze(-1)).abs().to(torch.promote_types(like.dtype, torch.float32))
    # where a line is made shorter, antialias makes the filter as wide as a place of the new line is
    width: Any = torch.sym_max(source, target) if antialias else target  # a symbol where one of them is
    weights = _filter(distances / (2 * width), antialias=antialias)
    if antialias:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights.to(like.dtype)


def _filter(distance: Tensor, *, antialias: bool) -> Tensor:
    a = -0.5 if antialias else -0.75  # torch's; Pillow has the former
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return torch.where(distance <= 1, near, torch.where(distance < REACH, far, torch.zeros_like(distance)))
