"""Antialiased cubic resampling as two matrix products, for runtimes that lack it.

OpenVINO reads a graph that asks for it, computes another function, and says nothing: of a ViT-S with registers at 224
pixels, what is returned is off by as much as 1.4 then.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

A = -0.5
"""Of the cubic filter, as torch and Pillow have it where they resample with antialias; -0.75 without, in torch."""

interpolate = F.interpolate


def interpolate_by_products(maps: Tensor, size: Any = None, *others: Any, **options: Any) -> Tensor:
    """What stands in the place of ``torch.nn.functional.interpolate``, which computes all else."""
    if size is None or options.get("mode") != "bicubic" or not options.get("antialias"):
        return interpolate(maps, size, *others, **options)
    return resample(maps, *size)


def resample(maps: Tensor, height: int, width: int) -> Tensor:
    """``(B, C, h, w)`` to ``(B, C, height, width)``."""
    down, across = build_weights(maps.shape[-2], height, maps), build_weights(maps.shape[-1], width, maps)
    return down @ maps @ across.T


def build_weights(source: int, target: int, like: Tensor) -> Tensor:
    """How much of each place of a line goes into each of the resampled one: ``(target, source)``.

    Args:
        target: may be a symbol.
        like: a tensor of the dtype and on the device to make them for.
    """
    places = torch.arange(target, dtype=like.dtype, device=like.device)
    scale = source / (places[-1] + 1)
    centers = (places + 0.5) * scale
    distances = torch.arange(source, dtype=like.dtype, device=like.device) + 0.5 - centers.unsqueeze(-1)
    weights = _filter((distances / scale.clamp(min=1.0)).abs())
    return weights / weights.sum(dim=-1, keepdim=True)


def _filter(distance: Tensor) -> Tensor:
    near = ((A + 2) * distance - (A + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * A
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
