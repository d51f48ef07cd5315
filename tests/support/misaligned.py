"""Weights that do not lie where a matrix product wants them: in memory, and in files as others write them."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from conversion.parity.alignment import ALIGNMENT


def place(tensor: Tensor, offset: int) -> Tensor:
    """The same values in memory that begins at ``offset`` bytes beyond a multiple of the alignment."""
    room = torch.empty(tensor.nbytes + 2 * ALIGNMENT, dtype=torch.uint8)
    start = -room.data_ptr() % ALIGNMENT + offset
    placed = room[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    return placed.copy_(tensor)


def misplace(model: nn.Module, offset: int = 8) -> nn.Module:
    """Have every parameter of a model begin there."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(place(parameter.data, offset)))
    return model


def shift_tensors(path: Path, offset: int = 8) -> None:
    """Write a safetensors file again, its first tensor at ``offset`` bytes beyond a multiple of the alignment."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8 : 8 + length])).encode()
    header += b" " * ((offset - 8 - len(header)) % ALIGNMENT)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
