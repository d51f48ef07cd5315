"""Folders as training libraries leave them, written by hand in the layout that the library itself was seen to write.

DeepSpeed's is that of 0.19.8 on the CPU, two processes with gloo; Lightning's that of 2.6.6. Where they are installed,
``test_files_of_tools.py`` and ``test_files_of_heavy_tools.py`` have them write their own.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

STEP = "global_step100"


def write_zero(
    top: Path,
    state_dict: Mapping[str, Tensor],
    stage: int,
    *,
    ranks: int = 2,
    step: str = STEP,
    buffers: int = 0,
    precision: str = "",
) -> Path:
    """What DeepSpeed's ``engine.save_checkpoint(top)`` writes with ZeRO of a stage; the folder of the step.

    Args:
        stage: 0 is without ZeRO: no scripts lie there, and the optimizer's state is in the model's file. From 3 on, a
            parameter is an empty tensor in the model's files.
        buffers: of the model that are no parameters, and whole in every file.
        precision: that the optimizer's files are named for, where it ran in another than float32: ``bf16_``.
    """
    folder = top / step
    folder.mkdir(parents=True)
    (top / "latest").write_text(step)
    for script in ("zero_to_fp32", "zero_to_torch") if stage else ():
        (top / f"{script}.py").write_text(f"# a copy of deepspeed.utils.{script}\n")
    names = [f"buffer_{number}" for number in range(buffers)]
    module = dict(state_dict) if stage < 3 else {key: tensor.new_zeros(0) for key, tensor in state_dict.items()}
    states = {
        "module": module | {name: torch.zeros(2, 2) for name in names},
        "buffer_names": names,
        "optimizer": None if stage else {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []},
        "param_shapes": [{key: tensor.shape for key, tensor in state_dict.items()}] if stage else None,
        "frozen_param_shapes": {} if stage >= 3 else None,
        "shared_params": {} if stage else None,
        "frozen_param_fragments": {} if stage >= 3 else None,
        "lr_scheduler": None,
        "data_sampler": None,
        "random_ltd": None,
        "skipped_steps": 0,
        "global_steps": 100,
        "global_samples": 800,
        "dp_world_size": ranks,
        "mp_world_size": 1,
        "checkpoint_parallel_dimensions": {"pp_degree": 1, "tp_degree": 1},
        "ds_config": {"train_batch_size": 8, "zero_optimization": {"stage": stage}},
        "ds_version": "0.19.8",
    }
    if stage < 3:
        torch.save(states, folder / "mp_rank_00_model_states.pt")
    for rank in range(ranks if stage else 0):
        flat = torch.cat([tensor.flatten().float() for tensor in state_dict.values()]).chunk(ranks)[rank].clone()
        groups = {"single_partition_of_fp32_groups" if stage < 3 else "fp32_flat_groups": [flat]}
        base = "base_optimizer_state" if stage < 3 else "optimizer_state_dict"
        optimizer = {"zero_stage": stage, "partition_count": ranks, base: {}, **groups}
        content = {"optimizer_state_dict": optimizer, "ds_config": {}, "ds_version": "0.19.8"}
        torch.save(content, folder / f"{precision}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        if stage >= 3:
            torch.save(states, folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    return folder


def write_lightning(folder: Path, state_dict: Mapping[str, Tensor], *names: str) -> None:
    """Checkpoints as PyTorch Lightning's ``ModelCheckpoint`` writes them, of a module with a ``backbone``."""
    for name in names:
        content = {
            "epoch": 3,
            "global_step": 100,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": {f"backbone.{key}": tensor for key, tensor in state_dict.items()},
            "loops": {},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 0.1},
        }
        torch.save(content, folder / name)
