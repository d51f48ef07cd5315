"""A process that trains with mmengine and leaves what its ``CheckpointHook`` writes: ``FOLDER/epoch_1.pth``.

``python -m tests.support.mmengine_run FOLDER`` wrote the recorded file in ``fixtures/tools``.
"""

import sys
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from tests.support.small_dinov2 import MOMENTUM, STEPS, Classifier, build_optimizer

CLASSES = tuple(f"class {number}" for number in range(7))


class Images(Dataset[dict[str, Tensor]]):
    """Images that nobody looks at; with the names of their classes, as mmsegmentation's datasets have them."""

    metainfo = {"classes": CLASSES, "palette": [[number] * 3 for number in range(len(CLASSES))]}  # noqa: RUF012

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": torch.zeros(1)}


class Model(BaseModel):
    """The small model and its head, as mmengine trains it."""

    def __init__(self) -> None:
        super().__init__()
        model = Classifier()
        self.backbone, self.head, self.compute_loss = model.backbone, model.head, model.compute_loss

    def forward(self, image: Tensor, mode: str = "tensor") -> dict[str, Any]:  # noqa: ARG002 (as mmengine calls it)
        return {"loss": self.compute_loss()}


def train(folder: str) -> None:
    """Train with an average of the weights, and save."""
    model = Model()
    loader = {
        "dataset": Images(),
        "batch_size": 1,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "default_collate"},
    }
    Runner(
        model=model,
        work_dir=folder,
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper=OptimWrapper(build_optimizer(model)),
        custom_hooks=[{"type": "EMAHook", "momentum": MOMENTUM}],
        experiment_name="small",
        randomness={"seed": 0},
    ).train()


if __name__ == "__main__":
    train(sys.argv[1])
