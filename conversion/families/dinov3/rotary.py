"""Rotary positions of DINOv3: the periods of a base, the base of periods, and the angles of patches."""

import math

import torch
from torch import Tensor, nn

STORED = (torch.float32, torch.bfloat16)
"""The dtypes that training computes periods in; the official ones are rounded to the second."""


def compute_periods(theta: float, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute periods as training does: powers of a base from 1 up to below the base, ``(count,)`` in float32.

    Args:
        dtype: that they were rounded to.
    """
    exponents = torch.arange(count, dtype=torch.float32, device="cpu") / count
    return (theta**exponents).to(dtype).to(torch.float32)


def find_theta(periods: Tensor) -> float | None:
    """Find the base whose powers these periods are, rounded or not; None if they are of none.

    Args:
        periods: ``(D/H/4,)``. A single one is 1, and tells nothing: then the official base.
    """
    if len(periods) == 1:
        return 100.0 if float(periods[0]) == 1 else None
    largest = float(periods[-1])
    if not largest > 1:
        return None
    estimate = largest ** (len(periods) / (len(periods) - 1))  # off by the rounding of the largest
    candidates = dict.fromkeys(float(f"{estimate:.{digits}g}") for digits in range(1, 8))
    return next((theta for theta in candidates if find_rounding(periods, theta) is not None), None)


def find_rounding(periods: Tensor, theta: float) -> torch.dtype | None:
    """Find the dtype that the powers of a base were rounded to; None if these are no powers of it."""
    found = periods.detach().cpu().to(torch.float32)
    return next((dtype for dtype in STORED if torch.equal(found, compute_periods(theta, len(found), dtype))), None)


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
