"""A process that trains with DeepSpeed on the CPU, a folder for each stage of ZeRO: ``FOLDER/zero_1_fp32``, ....

The layouts in ``tests/support/training_folders.py`` are what it writes, of two processes.
"""

import os
import sys
from itertools import product
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("LOCAL_RANK", os.environ["RANK"])

import deepspeed
import torch

from tests.support.processes import end_rank
from tests.support.small_dinov2 import SMALL, Classifier, build_optimizer

STAGES, PRECISIONS = (0, 1, 3), ("fp32", "bf16")


def train(folder: Path, stage: int, precision: str) -> None:
    """One step, and a checkpoint."""
    model = Classifier().backbone
    config = {
        "train_batch_size": 2,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": precision == "bf16"},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=build_optimizer(model), config=config)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    images = torch.zeros(1, 3, SMALL.image_size, SMALL.image_size, dtype=dtype)
    outputs = engine(images)
    tensors = outputs.values() if isinstance(outputs, dict) else [outputs]
    engine.backward(0 * sum(tensor.float().sum() for tensor in tensors if isinstance(tensor, torch.Tensor)))
    engine.step()
    engine.save_checkpoint(str(folder / f"zero_{stage}_{precision}"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo", verbose=False)
    for stage, precision in product(STAGES, PRECISIONS):
        train(Path(sys.argv[1]), stage, precision)
    end_rank()
