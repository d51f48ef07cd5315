"""The files of a checkpoint, read as was asked for: the backbone, and the linear head that goes with it."""

from collections.abc import Mapping
from pathlib import Path

import torch

from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.linear_head import read_linear_head
from conversion.suite.settings import Request


def list_own_files(request: Request) -> dict[str, Path]:
    """Role (``checkpoint``, ``linear_head``) to the user's own file; none where official ones are verified."""
    files = {"checkpoint": request.checkpoint, "linear_head": request.linear_head} if request.checkpoint else {}
    return {role: path for role, path in files.items() if path}


def read_files(request: Request, files: Mapping[str, Path], entry: str | None) -> dict[str, Checkpoint]:
    """Role to checkpoint.

    Args:
        files: role to file or folder.
        entry: of the backbone's, the one that holds the model.

    Raises:
        CheckpointError: one cannot be read, or the head does not fit.
    """
    dtype = getattr(torch, request.save_dtype) if request.save_dtype else None
    head = files.get("linear_head")
    backbone = read_checkpoint(files["checkpoint"], entry=entry, dtype=dtype, like=request.like)
    if head is None:
        return {"checkpoint": backbone}
    chosen = request.linear_head_entry
    return {"checkpoint": backbone, "linear_head": read_linear_head(head, backbone.state_dict, chosen, dtype=dtype)}
