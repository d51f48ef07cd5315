"""A file in the safetensors format whose tensors lie at multiples of 64 bytes, so that they do in memory, too.

A library that multiplies matrices may round otherwise where a weight begins elsewhere, and a file that is mapped into
memory lies there as it was written. ``safetensors`` itself aligns to 8 bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.errors import ArtifactError
from conversion.parity.alignment import ALIGNMENT

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from torch import Tensor

METADATA = {"format": "pt"}
"""What ``from_pretrained`` asks for."""

PIECE = 2**20
"""Bytes that are written at a time: for more at once, Linux looks for memory without gaps, and may look for long.

1.2 GB took 0.3 s so, and up to 2.4 s at once. With ``copy_file_range``, from file to file, it took 0.55 s.
"""

# name of the torch dtype: name of the file format
DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float16": "F16",
    "bfloat16": "BF16", "float32": "F32", "float64": "F64", "complex64": "C64",
}  # fmt: skip


def write_safetensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write tensors straight from the memory in which they lie; one that is not contiguous is copied for a moment.

    The same tensors give the same bytes, in whatever order they come.

    Raises:
        OSError: the disk is full, or the place cannot be written.
        ArtifactError: a dtype has no name in the format; with every tensor that has such a one.
    """
    nameless = [f"{key}: {tensor.dtype}" for key, tensor in tensors.items() if _name(tensor) not in DTYPES]
    if nameless:
        raise ArtifactError(f"{path}: safetensors has no such dtype.", nameless, "Cast them before they are saved.")
    keys = order_keys({key: tensor.nbytes for key, tensor in tensors.items()})
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for key in keys:
        tensor = tensors[key]
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": DTYPES[_name(tensor)], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)  # the format lets a header end in spaces
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in keys:
            view = view_bytes(tensors[key])
            for start in range(0, len(view), PIECE):
                file.write(view[start : start + PIECE].data)


def order_keys(sizes: Mapping[str, int]) -> list[str]:
    """The order in which as many tensors as can be lie at multiples of :data:`ALIGNMENT`: the format allows no gaps.

    Sizes that are multiples of it come first, then by the largest power of two that divides them, so that each tensor
    lies at a multiple of its own power; of one power, by name.

    Args:
        sizes: in bytes.
    """

    def rank(key: str) -> tuple[int, str]:
        size = sizes[key]
        power = size & -size or ALIGNMENT  # an empty tensor moves nothing
        return -min(power, ALIGNMENT), key

    return sorted(sizes, key=rank)


def _name(tensor: "Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def view_bytes(tensor: "Tensor") -> "NDArray[uint8]":
    """The bytes of a tensor, in the memory in which they lie; one that is not contiguous is copied for a moment."""
    import torch

    bytes_: NDArray[uint8] = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    return bytes_
