"""A process of a training run on the CPU that saves with torch.distributed.checkpoint, in the ways that people use."""

import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from conversion.families.base import load_family
from conversion.intake.synthetic import draw_state_dict
from tests.support.golden import read_golden
from tests.support.processes import end_rank

WIDE = "wide"
"""In the place of the golden model: of ViT-S's size, in three wide blocks. The list of tensors takes memory, too."""

WIDE_SPEC = {"embed_dim": 768, "depth": 3, "num_heads": 12, "ffn": "mlp", "num_register_tokens": 0, "patch_size": 14,
             "image_size": 224, "num_classes": 0}  # fmt: skip


class Training(Stateful):
    """Model and optimizer as one object, as torch's tutorial saves them."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optim": optimizer}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise NotImplementedError


def build_model(name: str) -> nn.Module:
    """The model that is trained: a golden one, or the wide one."""
    family = load_family("dinov2")
    if name == WIDE:
        spec = family.build_spec(**WIDE_SPEC)
        return family.load_original(spec, draw_state_dict(family, spec, WIDE, 0)).requires_grad_(True)
    golden = read_golden(name)
    weights = {key: tensor.clone() for key, tensor in golden.backbone.items()}
    return family.load_original(golden.spec, weights).requires_grad_(True)


def train(model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model cut among all ranks, and Adam with its state; the weights are left as they were."""
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


class Larger(nn.Module):
    """A backbone under a prefix, beside other modules: a student of its own make, and a head that is larger."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.pretrained, self.student = backbone, deepcopy(backbone)
        self.depth_head = nn.Sequential(*(nn.Linear(width, width) for _ in range(2)))
        with torch.no_grad():
            for parameter in self.student.parameters():
                parameter += 1


def save_app(name: str, folder: Path) -> None:
    dcp.save({"app": Training(*train(build_model(name))), "epoch": 3}, checkpoint_id=folder)


def save_model_and_optimizer(name: str, folder: Path) -> None:
    model, optimizer = get_state_dict(*train(build_model(name)))
    dcp.save({"model": model, "optimizer": optimizer, "iteration": 3}, checkpoint_id=folder)


def save_beside(name: str, folder: Path) -> None:
    """The model's tensors at the top, the optimizer in an entry beside them."""
    model, optimizer = get_state_dict(*train(build_model(name)))
    dcp.save({**model, "optimizer": optimizer, "train_state": {"step": 3}}, checkpoint_id=folder)


def save_teacher(name: str, folder: Path) -> None:
    """Teacher and student with the heads of their losses, under flat keys, as DINOv2's modules are called."""
    model, _ = train(build_model(name))
    head = {"dino_head.mlp.0.weight": torch.ones(4, 2), "ibot_head.mlp.0.weight": torch.ones(4, 2)}
    held = {f"backbone.{key}": tensor for key, tensor in model.state_dict().items()} | head
    student = {f"student.{key}": tensor + 1 for key, tensor in held.items()}
    dcp.save({"model": {**student, **{f"teacher.{key}": each for key, each in held.items()}}}, checkpoint_id=folder)


def save_replicated(name: str, folder: Path) -> None:
    dcp.save(build_model(name).state_dict(), checkpoint_id=folder)


def save_larger(name: str, folder: Path) -> None:
    model, optimizer = get_state_dict(*train(Larger(build_model(name), 4096 if name == WIDE else 8)))
    dcp.save({"model": model, "optimizer": optimizer, "iteration": 3}, checkpoint_id=folder)


def save_safetensors(name: str, folder: Path) -> None:
    model, _ = train(build_model(name))
    writer = dcp.FileSystemWriter(folder, serialization_format=SerializationFormat.SAFETENSORS)
    dcp.save({"model": model.state_dict(), "iteration": 3}, storage_writer=writer)


def save_two_dimensions(name: str, folder: Path) -> None:
    """Matrices cut along both of their dimensions."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2))
    cut = {
        key: distribute_tensor(tensor, mesh, [Shard(0), Shard(1)]) if tensor.ndim == 2 else tensor
        for key, tensor in build_model(name).state_dict().items()
    }
    dcp.save({"model": cut}, checkpoint_id=folder)


KINDS: dict[str, Callable[[str, Path], None]] = {
    "app": save_app,
    "model and optimizer": save_model_and_optimizer,
    "beside": save_beside,
    "teacher": save_teacher,
    "larger": save_larger,
    "replicated": save_replicated,
    "safetensors": save_safetensors,
    "two dimensions": save_two_dimensions,
}


def main(folder: Path, runs: list[str]) -> None:
    """Save in every way that was asked for: the name of a model, and of a way."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    for name, _, kind in (run.partition(":") for run in runs):
        KINDS[kind](name, folder / name / kind)
    end_rank()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
