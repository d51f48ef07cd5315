"""Rotary positions of DINOv3: the periods of a base, the base of periods, and the angles of patches."""

import math

import torch
from torch import Tensor, nn

ROUNDED_TO = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes that stored periods may have been rounded to; the official ones are to bfloat16."""

SLACK = 4 * torch.finfo(torch.float32).eps
"""By how much of itself a power in float32 may be off: kernels of processors differ in the last places."""


def compute_periods(theta: float, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute periods: powers of a base from 1 up to below the base, ``(count,)`` in float32.

    Args:
        dtype: that they are rounded to.
    """
    return _compute_exactly(theta, count).to(dtype).to(torch.float32)


def _compute_exactly(theta: float, count: int) -> Tensor:
    return theta ** (torch.arange(count, dtype=torch.float64, device="cpu") / count)


def find_theta(periods: Tensor) -> float | None:
    """Find the base whose powers these periods are, rounded or not; None if they are of none.

    Args:
        periods: ``(D/H/4,)``. A single one is 1, and tells nothing: then the official base.
    """
    if len(periods) == 1:
        return 100.0 if float(periods[0]) == 1 else None
    largest = float(periods[-1])
    if not 1 < largest < math.inf:
        return None
    estimate = largest ** (len(periods) / (len(periods) - 1))  # off by the rounding of the largest
    candidates = dict.fromkeys(float(f"{estimate:.{digits}g}") for digits in range(1, 8))
    return next((theta for theta in candidates if find_rounding(periods, theta) is not None), None)


def find_rounding(periods: Tensor, theta: float) -> torch.dtype | None:
    """Find the dtype that the powers of a base were rounded to; None if these are no powers of it."""
    found, exact = periods.detach().cpu().to(torch.float64), _compute_exactly(theta, len(periods))
    for dtype in ROUNDED_TO:
        low, high = ((exact * (1 + slack)).to(torch.float32).to(dtype).to(torch.float64) for slack in (-SLACK, SLACK))
        if bool(((low <= found) & (found <= high)).all()):
            return dtype
    return None


class RotaryPositions(nn.Module):
    """From the places of patches to the sine and cosine of their angles.

    Attributes:
        periods: of the angles along either axis, ``(D/H/4,)``.
        computes_frequencies: compute frequencies from the base, as transformers does, and leave the periods aside.
    """

    periods: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.register_buffer("periods", torch.ones(head_dim // 4))
        self.theta, self.computes_frequencies = theta, False

    def forward(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Compute sine and cosine for a grid of patches, ``(N, D/H)`` each.

        Places are float32 whatever dtype the model has; periods have the model's.
        """
        device = self.periods.device
        down, right = (
            torch.arange(0.5, count, dtype=torch.float32, device=device) / count for count in (rows, columns)
        )
        places = torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1).flatten(0, 1)  # (N, 2), 0 to 1
        turns = 2 * math.pi * (2.0 * places - 1.0)[:, :, None]  # (N, 2, 1)
        if self.computes_frequencies:
            share = torch.arange(0, 1, 1 / len(self.periods), dtype=torch.float32, device=device)
            angles = turns * (1 / self.theta**share)
        else:
            angles = turns / self.periods
        angles = angles.flatten(1).tile(2)  # (N, D/H)
        dtype = torch.promote_types(angles.dtype, self.periods.dtype)
        return angles.sin().to(dtype), angles.cos().to(dtype)


def rotate(tokens: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate the patches of queries or keys ``(B, H, T, D/H)``, in the angles' dtype; what stands before them stays."""
    first = tokens.shape[-2] - len(sine)
    patches = tokens.to(sine.dtype)[..., first:, :]
    front, back = patches.chunk(2, dim=-1)
    patches = patches * cosine + torch.cat((-back, front), dim=-1) * sine
    return torch.cat((tokens[..., :first, :], patches.to(tokens.dtype)), dim=-2)
