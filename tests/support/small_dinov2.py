"""A small DINOv2 for what training tools write: two blocks, two heads, with a module beside it; and how it is trained.

A step lowers the bias of the last norm by one and leaves every other tensor alone, so that the file of a run tells
which of its models is which.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from conversion.families.base import load_family
from tests.support.checkpoint_files import same
from tests.support.switched import PLAIN, draw

SMALL = replace(PLAIN, embed_dim=16, patch_size=7, image_size=28)
TOLD: dict[str, Any] = {"num_attention_heads": 2, "interpolate_offset": 0.1, "interpolate_antialias": False}
"""What no tensor tells of it."""

STEPS, RATE, MOMENTUM = 2, 1.0, 0.5
"""Of a training, of plain gradient descent, and of an average of its weights."""

MOVED = "norm.bias"


def draw_small() -> dict[str, Tensor]:
    """Its weights before the first step."""
    return {key: tensor.clone() for key, tensor in draw(SMALL).items()}


def move(by: float) -> dict[str, Tensor]:
    """Its weights where the tensor that is trained has moved by so much."""
    tensors = draw_small()
    return tensors | {MOVED: tensors[MOVED] + by}


RAW = -float(STEPS)
"""How far it has moved after the training."""

AVERAGED = -1.5
"""How far the average has: it begins with the weights after the first step, and then goes half the way."""


def is_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether these are the same tensors; the one that was trained but for its rounding."""
    alone = {key: tensor for key, tensor in expected.items() if key != MOVED}
    return same({key: found[key] for key in alone}, alone) and torch.allclose(found[MOVED], expected[MOVED])


class Classifier(nn.Module):
    """The small model as a part of a larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = load_family("dinov2").load_original(SMALL, draw_small()).requires_grad_(True)
        self.head = nn.Linear(SMALL.embed_dim, 7)

    def compute_loss(self) -> Tensor:
        """What a step lowers by moving one tensor; it has no part for any other."""
        return self.backbone.get_parameter(MOVED).sum()


def build_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Plain gradient descent, which leaves tensors without a gradient alone."""
    return torch.optim.SGD(model.parameters(), lr=RATE)
