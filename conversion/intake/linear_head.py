"""A linear head's file, read; of several heads in it, the one that was chosen."""

from dataclasses import replace
from pathlib import Path

import torch

from conversion.errors import concerning
from conversion.families.linear_head import list_heads
from conversion.families.told import ToldStateDict
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.steps import Step
from conversion.mapping.key_map import StateDict
from conversion.state_dicts.linear_head import fit_linear_head

MAX_LISTED = 20
"""Heads that are named in a record; of one evaluation there may be hundreds."""


def read_linear_head(
    path: Path, backbone: StateDict, entry: str | None = None, *, dtype: torch.dtype | None = None
) -> Checkpoint:
    """Read the linear head that goes with a backbone; the record names the heads that were left out.

    Args:
        backbone: original state dict.
        entry: of a file of several heads, the name of the one to take.
        dtype: to cast it to; its own unless given.

    Raises:
        CheckpointError: the file cannot be read, holds several heads and none was chosen, or none that fits.
    """
    checkpoint = read_checkpoint(path, dtype=dtype)
    with concerning(path):
        head = fit_linear_head(backbone, checkpoint.state_dict, entry)
    kept = {id(tensor) for tensor in head.values()}
    left = [
        name
        for name, each in list_heads(checkpoint.state_dict).items()
        if not kept & {id(tensor) for tensor in each.tensors.values()}
    ]
    told = head.told if isinstance(head, ToldStateDict) else {}
    steps = checkpoint.steps
    if left:
        listed = ", ".join(left[:MAX_LISTED]) + (f" and {len(left) - MAX_LISTED} more" if left[MAX_LISTED:] else "")
        steps += (Step("choose", f"linear head {entry} taken; left out: {listed}"),)
    return replace(checkpoint, state_dict=ToldStateDict(head, told), steps=steps)
