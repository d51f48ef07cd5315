"""A small model of residual blocks, one of which may have a fault: its stages and its inputs."""

import torch
from torch import Tensor, nn

from conversion.parity.points import CapturePoint, Inputs, Stage

WIDTH, DEPTH = 8, 5
"""Of the model: features, and blocks."""

INPUTS = Inputs(torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0)))
"""Two sequences of three tokens."""


class Block(nn.Module):
    """A linear layer added to its input; ``shift`` is a fault."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.linear.parameters():
            parameter.data.normal_(0, 0.3, generator=generator)
        self.shift = 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.linear(tokens) + self.shift


class Stack(nn.Module):
    """Blocks, one after the other; notes which have run."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(seed) for seed in range(DEPTH))
        self.log: list[int] = []

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        for index, block in enumerate(self.blocks):
            pixel_values = block(pixel_values)
            self.log.append(index)
        return {"out": pixel_values}


def point(name: str, place: str) -> CapturePoint:
    """A capture point at the same place of both models."""
    return CapturePoint(name, place, place, ())


STAGES = [
    Stage("input", (point("input", "blocks.0:input"),)),
    *(
        Stage(
            f"block.{i}",
            (point(f"block.{i}.linear", f"blocks.{i}.linear:output"), point(f"block.{i}", f"blocks.{i}:output")),
            f"blocks.{i}",
            f"blocks.{i}",
        )
        for i in range(DEPTH)
    ),
    Stage("out", (point("out", ":out"),)),
]
"""What the first block is given, each block with the layer in it, and what the model returns."""


def draw(tokens: int) -> Inputs:
    """One sequence of so many tokens, other values for another number."""
    return Inputs(torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(tokens)))
