"""What reports that are tried are made of: a time, and drawn values for their pictures."""

from datetime import UTC, datetime

import torch

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
"""When they are written."""


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values of this shape that follow from a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
