"""The files of a checkpoint, read as was asked for: the backbone, and the head that goes with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from conversion.families.heads import HEADS
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.linear_head import read_linear_head
from conversion.suite.settings import Request


def list_own_files(request: Request) -> dict[str, Path]:
    """Role (``checkpoint``, or that of a head) to the user's own file; none where official ones are verified."""
    files = {role: getattr(request, role) for role in ("checkpoint", *HEADS)} if request.checkpoint else {}
    return {role: path for role, path in files.items() if path}


def take_heads(read: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """The state dicts of the heads that go with a checkpoint, by role: arguments of ``convert``."""
    return {role: read[role].state_dict for role in HEADS if role in read}


def read_files(request: Request, files: Mapping[str, Path], entry: str | None) -> dict[str, Checkpoint]:
    """Role to checkpoint.

    Args:
        files: role to file or folder.
        entry: of the backbone's, the one that holds the model.

    Raises:
        CheckpointError: one cannot be read, or the head does not fit.
    """
    dtype = getattr(torch, request.save_dtype) if request.save_dtype else None
    read = {"checkpoint": read_checkpoint(files["checkpoint"], entry=entry, dtype=dtype, like=request.like)}
    if "linear_head" in files:
        backbone, chosen = read["checkpoint"].state_dict, request.linear_head_entry
        read["linear_head"] = read_linear_head(files["linear_head"], backbone, chosen, dtype=dtype)
    if "depth_head" in files:
        read["depth_head"] = read_checkpoint(files["depth_head"], dtype=dtype)
    return read
