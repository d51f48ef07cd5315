"""Folders as training libraries leave them, written by hand where the library is not installed."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

STEP = "global_step100"


def write_zero(
    top: Path, state_dict: Mapping[str, Tensor], stage: int, *, ranks: int = 2, step: str = STEP, buffers: int = 0
) -> Path:
    """What DeepSpeed's ``engine.save_checkpoint(top)`` writes with ZeRO of a stage; the folder of the step.

    Args:
        stage: 0 is without ZeRO. From 3 on, a parameter is an empty tensor in the model's files.
        buffers: of the model that are no parameters, and whole in every file.
    """
    folder = top / step
    folder.mkdir(parents=True)
    (top / "latest").write_text(step)
    (top / "zero_to_fp32.py").write_text("# a copy of deepspeed.utils.zero_to_fp32\n")
    names = [f"buffer_{number}" for number in range(buffers)]
    module = dict(state_dict) if stage < 3 else {key: tensor.new_zeros(0) for key, tensor in state_dict.items()}
    states = {
        "module": module | {name: torch.zeros(2, 2) for name in names},
        "buffer_names": names,
        "optimizer": None,
        "param_shapes": [{key: tensor.shape for key, tensor in state_dict.items()}],
        "frozen_param_shapes": None,
        "shared_params": {},
        "frozen_param_fragments": None,
        "lr_scheduler": None,
        "data_sampler": None,
        "random_ltd": None,
        "sparse_tensor_module_names": set(),
        "skipped_steps": 0,
        "global_steps": 100,
        "global_samples": 800,
        "dp_world_size": ranks,
        "mp_world_size": 1,
        "ds_config": {"train_batch_size": 8, "zero_optimization": {"stage": stage}},
        "ds_version": "0.15.0",
    }
    if stage < 3:
        torch.save(states, folder / "mp_rank_00_model_states.pt")
    for rank in range(ranks if stage else 0):
        flat = torch.cat([tensor.flatten().float() for tensor in state_dict.values()]).chunk(ranks)[rank].clone()
        groups = {"single_partition_of_fp32_groups" if stage < 3 else "fp32_flat_groups": [flat]}
        optimizer = {"zero_stage": stage, "partition_count": ranks, "base_optimizer_state": {}, **groups}
        content = {"optimizer_state_dict": optimizer, "ds_config": {}, "ds_version": "0.15.0"}
        torch.save(content, folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        if stage >= 3:
            torch.save(states, folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    return folder


def write_lightning(folder: Path, state_dict: Mapping[str, Tensor], *names: str) -> None:
    """Checkpoints as PyTorch Lightning's ``ModelCheckpoint`` writes them, of a module with a ``backbone``."""
    for name in names:
        content = {
            "epoch": 3,
            "global_step": 100,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"backbone.{key}": tensor for key, tensor in state_dict.items()},
            "loops": {},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
        }
        torch.save(content, folder / name)
