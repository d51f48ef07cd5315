"""A process of a DINOv2 training on several GPUs, on the CPU: wrapped and saved as the authors' training does it.

The model is written out here on its own, its modules in the authors' order: what is tried must not share their order.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel as Fsdp
from torch.distributed.fsdp import MixedPrecision, ShardingStrategy, StateDictType
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from tests.support.processes import end_rank

DEPTH, HEADS = 4, 2

# folder of a run: width, registers, chunks of blocks, original parameters kept, switched off
RUNS: dict[str, tuple[int, int, int, bool, tuple[str, ...]]] = {
    "chunks":            (32, 0, 2, True, ()),
    "uneven chunks":     (32, 0, 3, True, ()),  # of one block each, since 4 // 3 is 1
    "registers":         (32, 4, 0, True, ()),
    "odd width":         (30, 0, 2, True, ()),
    "flattened alone":   (30, 0, 2, False, ()),
    "without qkv bias":  (32, 0, 2, True, ("qkv_bias",)),
}  # fmt: skip

PATCH_SIZE, IMAGE_SIZE = 7, 28


class Block(nn.Module):
    """A block's parameters, in the authors' order."""

    def __init__(self, width: int, off: tuple[str, ...]) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(width, 3 * width, bias="qkv_bias" not in off)
        self.attn.proj = nn.Linear(width, width)
        self.ls1 = nn.Module()
        self.ls1.gamma = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(width, 4 * width)
        self.mlp.fc2 = nn.Linear(4 * width, width)
        self.ls2 = nn.Module()
        self.ls2.gamma = nn.Parameter(torch.ones(width))


class BlockChunk(nn.ModuleList):
    """What the authors' training wraps within a backbone."""


class Backbone(nn.Module):
    """A backbone's parameters, in the authors' order."""

    def __init__(self, width: int, registers: int, chunks: int, off: tuple[str, ...]) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (IMAGE_SIZE // PATCH_SIZE) ** 2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, PATCH_SIZE, PATCH_SIZE)
        blocks = [Block(width, off) for _ in range(DEPTH)]
        size = DEPTH // chunks if chunks else DEPTH
        parts = [
            BlockChunk([*(nn.Identity() for _ in range(first)), *blocks[first : first + size]])
            for first in range(0, DEPTH, size)
        ]
        self.blocks = nn.ModuleList(parts if chunks else blocks)
        self.norm = nn.LayerNorm(width)
        self.mask_token = nn.Parameter(torch.zeros(1, width))


class Training(nn.Module):
    """Teacher and student, each with the heads of its losses, and a loss with a running mean."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.dino_loss = nn.Module()
        self.dino_loss.register_buffer("center", torch.zeros(1, 8))
        for name in ("student", "teacher"):
            parts = {"backbone": Backbone(*arguments), "dino_head": nn.Linear(6, 8), "ibot_head": nn.Linear(6, 8)}
            self.add_module(name, nn.ModuleDict(parts))
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn_like(parameter) / 8)


def save_run(folder: Path, width: int, registers: int, chunks: int, is_kept: bool, off: tuple[str, ...]) -> None:
    """Save a rank's file, and of rank 0 both models whole, the teacher as training writes it for evaluation."""
    folder.mkdir(exist_ok=True)
    training = Training(width, registers, chunks, off)
    whole: dict[str, dict[str, Tensor]] = {
        name: {key: tensor.clone() for key, tensor in getattr(training, name).state_dict().items()}
        for name in ("teacher", "student")
    }
    half = MixedPrecision(param_dtype=torch.float16, reduce_dtype=torch.float16, buffer_dtype=torch.float32)
    for parts in (training.student, training.teacher):
        for name, module in parts.items():
            parts[name] = Fsdp(
                module,
                sharding_strategy=ShardingStrategy.SHARD_GRAD_OP,
                mixed_precision=half,
                device_id=torch.device("cpu"),
                use_orig_params=is_kept,
                auto_wrap_policy=ModuleWrapPolicy({BlockChunk}),
            )
    with Fsdp.state_dict_type(training, StateDictType.LOCAL_STATE_DICT):
        content = {"model": training.state_dict(), "optimizer": {"state": {}}, "iteration": 9}
    rank = dist.get_rank()
    torch.save(content, folder / f"model_0000009.rank_{rank}.pth")
    (folder / f"last_checkpoint.rank_{rank}").write_text(f"model_0000009.rank_{rank}.pth")
    if rank == 0:
        evaluated = folder / "eval" / "training_9"
        evaluated.mkdir(parents=True)
        torch.save({"teacher": whole["teacher"]}, evaluated / "teacher_checkpoint.pth")
        torch.save(whole["student"], folder / "eval" / "student.pth")
        (folder / "config.yaml").write_text(write_config(registers, chunks, off))


def write_config(registers: int, chunks: int, off: tuple[str, ...]) -> str:
    """The part of a training's config that tells of the model."""
    switches = "".join(f"  {name}: {str(name not in off).lower()}\n" for name in ("qkv_bias", "proj_bias", "ffn_bias"))
    return (
        f"student:\n  arch: vit_small\n  patch_size: {PATCH_SIZE}\n  layerscale: 1.0e-05\n  ffn_layer: mlp\n"
        f"  block_chunks: {chunks}\n{switches}  num_register_tokens: {registers}\n  interpolate_antialias: false\n"
        f"  interpolate_offset: 0.1\ncrops:\n  global_crops_size: {IMAGE_SIZE}\n  local_crops_size: 14\n"
    )


def main(folder: Path) -> None:
    """Save what every run saves."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    for name, settings in RUNS.items():
        save_run(folder / name, *settings)
    end_rank()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
