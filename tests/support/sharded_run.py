"""A process of a sharded training run on the CPU: saves its part of a tiny model, as FSDP leaves it to be saved."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType, fully_shard

from conversion.families.base import load_family
from tests.support.golden import read_golden
from tests.support.processes import end_rank


def main(folder: Path, kinds: list[str]) -> None:
    """Save this rank's file in every way that was asked for."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    golden, family = read_golden("dinov2_tiny"), load_family("dinov2")
    for kind in kinds:
        weights = {key: tensor.clone() for key, tensor in golden.backbone.items()}
        model = family.load_original(golden.spec, weights)
        if kind == "fully_shard":
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
