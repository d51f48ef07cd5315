"""A process of a sharded training run on the CPU: saves its part of a tiny model, as FSDP leaves it to be saved."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor import Shard as Piece
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from conversion.families.base import load_family
from tests.support.golden import read_golden
from tests.support.processes import end_rank


def cut_otherwise(tensor: Tensor) -> dict[str, Tensor]:
    """A tensor in ways that torch has, and FSDP does not use for what it saves."""
    rank, line, grid = dist.get_rank(), init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (2, 1))
    rows = tensor.clone().chunk(4)
    size, width = rows[0].shape
    pieces = [Piece.from_tensor_and_offsets(rows[n], [n * size, 0], rank) for n in (2 * rank, 2 * rank + 1)]
    half = tensor.chunk(2)[rank].clone()
    in_grid = init_from_local_shards([Piece.from_tensor_and_offsets(half, [rank * len(half), 0], rank)], *tensor.shape)
    in_grid.local_shards()[0].metadata.shard_sizes = [len(half), width // 2]  # as of four ranks
    return {
        "sum": DTensor.from_local(tensor, line, [Partial()]),
        "grid": DTensor.from_local(half, grid, [Shard(0), Shard(1)]),
        "replica": DTensor.from_local(tensor + rank, line, [Replicate()]),
        "replicated piece": DTensor.from_local(tensor + rank, grid, [Replicate(), Shard(0)]),
        "two pieces": init_from_local_shards(pieces, *tensor.shape),
        "piece of a grid": in_grid,
    }


def main(folder: Path, kinds: list[str]) -> None:
    """Save this rank's file in every way that was asked for."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    golden, family = read_golden("dinov2_tiny"), load_family("dinov2")
    for kind in kinds:
        weights = {key: tensor.clone() for key, tensor in golden.backbone.items()}
        model = family.load_original(golden.spec, weights)
        if kind == "otherwise":
            state_dict = cut_otherwise(golden.backbone["blocks.0.mlp.fc1.weight"])
        elif kind == "fully_shard":
            fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
            state_dict = model.state_dict()
        else:
            wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
            with FullyShardedDataParallel.state_dict_type(wrapped, StateDictType[kind]):
                state_dict = wrapped.state_dict()
        (folder / kind).mkdir(exist_ok=True)
        torch.save({"model": state_dict, "iteration": 1}, folder / kind / f"model_0001.rank_{dist.get_rank()}.pth")
    end_rank()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
