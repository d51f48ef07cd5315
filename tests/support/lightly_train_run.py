"""A process that trains with lightly-train on the CPU: ``FOLDER/checkpoints/last.ckpt``, and what it exports.

``python -m tests.support.lightly_train_run FOLDER`` wrote the recorded file in ``fixtures/tools``.
"""

import sys
from functools import partial
from pathlib import Path

import lightly_train
import numpy as np
import torch
from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.attention import MemEffAttention
from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.block import Block
from lightly_train._models.dinov2_vit.dinov2_vit_src.models.vision_transformer import DinoVisionTransformer
from PIL import Image

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


def build() -> DinoVisionTransformer:
    """Its own DINOv2, small, with weights that are drawn."""
    torch.manual_seed(0)
    model = DinoVisionTransformer(
        patch_size=14, embed_dim=8, depth=2, num_heads=2, img_size=70, init_values=1.0,
        block_fn=partial(Block, attn_class=MemEffAttention),
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.5)
    return model


def train(folder: Path, images: Path) -> None:
    """Train for one step as DINO does, with heads that are small, and save."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    images.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(images / f"{number}.png")
    lightly_train.pretrain(
        out=folder,
        data=images,
        model=build(),
        method="dino",
        method_args={"output_dim": 8, "hidden_dim": 8, "bottleneck_dim": 4},
        optim="sgd",
        epochs=1,
        batch_size=2,
        num_workers=0,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        transform_args={
            "image_size": (70, 70),
            "local_view": {"view_size": (28, 28), "num_views": 2},
            "normalize": {"mean": MEAN, "std": STD},
        },
        loggers={"tensorboard": None},
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(f"{sys.argv[1]}-images"))
