"""Pure functions on tensors. None changes its input; slices are views."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from conversion.errors import KeyMapError

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Dtypes of weights that are converted and compared."""


def split_rows(fused: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Cut a tensor into equal parts along its first dimension: a fused projection into query, key and value.

    Args:
        fused: ``(parts * D, ...)``.

    Returns:
        ``parts`` views of shape ``(D, ...)``, no data copied.

    Raises:
        KeyMapError: the rows do not divide evenly.
    """
    if parts == 1:
        return (fused,)
    rows = fused.shape[0] if fused.ndim else 0
    if rows == 0 or rows % parts:
        raise KeyMapError(f"A tensor of shape {tuple(fused.shape)} cannot be split into {parts} equal parts by rows.")
    return tuple(fused.split(rows // parts))  # parts x (D, ...)


def fuse_rows(parts: Sequence[Tensor]) -> Tensor:
    """The inverse of :func:`split_rows`: ``parts`` of shape ``(D, ...)`` become one ``(parts * D, ...)``.

    Raises:
        KeyMapError: the parts differ in shape.
    """
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) != 1:
        raise KeyMapError(f"Parts of one fused tensor differ in shape: {sorted(shapes)}.")
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))  # (parts * D, ...)


def resample_position_embeddings(pos_embed: Tensor, grid: tuple[int, int], *, offset: float, antialias: bool) -> Tensor:
    """Resample position embeddings to another grid of patches, in the original's arithmetic.

    The original resamples in float32 whatever the model's dtype. With an offset it passes the ratio of grid sizes
    as ``scale_factor``, computed from ``grid + offset``; the bicubic kernel then samples at slightly other places
    than with ``size``. Source: ``interpolate_pos_encoding`` in ``dinov2/models/vision_transformer.py``.

    Args:
        pos_embed: ``(1, 1 + M * M, D)``; the first position belongs to the CLS token and is kept.
        grid: patches per column and per row, ``(height, width)``.
        offset: added to the grid before the ratio is taken; 0 resamples to ``size``.
        antialias: low-pass filter when shrinking.

    Returns:
        ``(1, 1 + height * width, D)`` in the dtype of ``pos_embed``.

    Raises:
        KeyMapError: the patch positions do not form a square, or the ratio misses the grid asked for.
    """
    num_positions, width = pos_embed.shape[1] - 1, pos_embed.shape[2]
    side = square_side(num_positions)
    cls_position, patch_positions = pos_embed.float().split([1, num_positions], dim=1)  # (1, 1, D), (1, M*M, D)
    target: dict[str, tuple[float, float] | tuple[int, int]] = (
        {"scale_factor": ((grid[0] + offset) / side, (grid[1] + offset) / side)} if offset else {"size": grid}
    )
    resampled = F.interpolate(
        patch_positions.reshape(1, side, side, width).permute(0, 3, 1, 2),  # (1, D, M, M)
        mode="bicubic",
        antialias=antialias,
        **target,  # type: ignore[arg-type]
    )  # (1, D, height, width)
    if tuple(resampled.shape[-2:]) != tuple(grid):
        raise KeyMapError(f"Resampling {side}x{side} positions gave {tuple(resampled.shape[-2:])}, not {tuple(grid)}.")
    patch_positions = resampled.permute(0, 2, 3, 1).reshape(1, -1, width)  # (1, height*width, D)
    return torch.cat((cls_position, patch_positions), dim=1).to(pos_embed.dtype)


def square_side(num_positions: int) -> int:
    """The side of a square grid of ``num_positions`` patches.

    Raises:
        KeyMapError: they do not form a square.
    """
    side = math.isqrt(max(num_positions, 0))
    if num_positions < 1 or side * side != num_positions:
        raise KeyMapError(f"{num_positions} patch positions do not form a square grid.")
    return side


def describe_unusable(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name every tensor that cannot be a weight: not a dense one of a usual dtype, or with NaN or Inf in it.

    Tensors on the meta device have no values and are taken as finite.
    """
    problems = []
    for key, tensor in tensors.items():
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool):
            problems.append(f"{key}: integers ({tensor.dtype})")
        elif tensor.dtype not in FLOATING or tensor.layout != torch.strided:
            problems.append(f"{key}: not a dense floating-point tensor ({tensor.dtype}, {tensor.layout})")
        elif tensor.numel() and not tensor.is_meta:
            # NaN and Inf both survive in the extremes; one pass, no mask the size of the tensor
            extremes = torch.stack(torch.aminmax(tensor))
            if not extremes.isfinite().all():
                count = int((~tensor.isfinite()).sum())
                problems.append(f"{key}: {count} of {tensor.numel()} values are NaN or Inf")
    return problems
