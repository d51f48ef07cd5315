"""Checkpoints as people have them: written, read with what intake did, and their tensors compared."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.parity.metrics import is_bit_equal


def save(content: object, path: Path) -> Path:
    """Write a file of ``torch.save``; its path."""
    torch.save(content, path)
    return path


def shard(tensors: dict[str, Tensor], folder: Path) -> Path:
    """Write a model as two shards and their index, as Hugging Face does; the folder."""
    keys = list(tensors)
    files = {"model-00001-of-00002.safetensors": keys[::2], "model-00002-of-00002.safetensors": keys[1::2]}
    folder.mkdir(exist_ok=True)
    for name, held in files.items():
        save_file({key: tensors[key] for key in held}, folder / name)
    weight_map = {key: name for name, held in files.items() for key in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two state dicts have the same keys and, bit for bit, the same tensors."""
    return left.keys() == right.keys() and all(is_bit_equal(left[key], right[key]) for key in left)


def steps(path: Path, **options: Any) -> dict[str, str]:
    """What each step of intake did."""
    return {step.name: step.did for step in read_checkpoint(path, **options).steps}


def read(path: Path, entry: str | None = None) -> tuple[Checkpoint, dict[str, str], list[str]]:
    """A file or folder, read; what intake did; what was warned of."""
    with warnings.catch_warnings(action="ignore"):
        checkpoint = read_checkpoint(path, entry=entry)
    return checkpoint, {step.name: step.did for step in checkpoint.steps}, list(checkpoint.said)
