"""A small model whose layers run within a context of its own: its stages and its inputs."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from conversion.parity.points import CapturePoint, Inputs, Stage

WIDTH, DEPTH = 64, 3
"""Of the model: features, and blocks."""


def build_stage(name: str, place: str, module: str = "") -> Stage:
    """A stage of one capture point."""
    return Stage(name, (CapturePoint(name, place, place, ()),), module, module)


STAGES = [
    *(build_stage(f"block.{i}", f"blocks.{i}:output", f"blocks.{i}") for i in range(DEPTH)),
    build_stage("out", ":out"),
]
"""Each block, then what the model returns."""

INPUTS = Inputs(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1)))
"""Two rows of features."""


class Net(nn.Module):
    """Linear layers within a context that ``forward`` opens, as rotary embeddings and the authors' code do.

    Args:
        after: called with the number of each block that has run.
    """

    def __init__(self, context: Callable[[], Any] = nullcontext, after: Callable[[int], object] = int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.1, generator=generator)
        self.context, self.after = context, after

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        tokens = pixel_values
        with self.context():
            for index, block in enumerate(self.blocks):
                tokens = block(tokens).to(pixel_values.dtype)
                self.after(index)
        return {"out": tokens}
