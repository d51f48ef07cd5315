"""Read off the shapes of its tensors what a model is made of: what families share."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from conversion.errors import CheckpointError
from conversion.mapping.key_map import Shapes, StateDict

HEAD_DIM = 64
"""Width of an attention head in every official model."""


WHOLE = "A model is converted whole: give a file that has these tensors, with these dimensions."
"""What to do about a state dict that is not one."""


def find_misshapen(shapes: Shapes, needed: Mapping[str, int], optional: Mapping[str, int]) -> list[str]:
    """Name every key that is absent though needed, or has another number of dimensions, or none along one of them.

    Args:
        needed, optional: key to number of dimensions.
    """
    problems = [
        f"{key}: {tuple(shapes[key]) if key in shapes else 'missing'}, needed with {ndim} dimension(s), none of them 0"
        for key, ndim in needed.items()
        if len(shapes.get(key, ())) != ndim or 0 in shapes[key]
    ]
    return problems + [
        f"{key}: {tuple(shapes[key])}, needed with {ndim} dimension(s)"
        for key, ndim in optional.items()
        if key in shapes and (len(shapes[key]) != ndim or 0 in shapes[key])
    ]


def count_blocks(shapes: Shapes, prefix: str = "blocks.") -> tuple[int, list[str]]:
    """Count the blocks, and list what is wrong with their numbering."""
    numbers = {
        int(number)
        for key in shapes
        if key.startswith(prefix) and (number := key.removeprefix(prefix).partition(".")[0]).isdecimal()
    }
    if not numbers or max(numbers) + 1 == len(numbers):
        return len(numbers), []
    absent = next(index for index in range(len(numbers) + 1) if index not in numbers)
    return len(numbers), [f"{prefix}{absent}.*: missing, though there are blocks up to {max(numbers)}"]


def has_any(shapes: Shapes, *endings: str) -> bool:
    """Whether any block has a tensor with one of these names; blocks that lack it are found later."""
    return any(key.endswith(endings) for key in shapes)


def has_rotary_positions(shapes: Shapes) -> bool:
    """Whether these are a DINOv3 model's: it alone stores the periods of rotary positions, and storage tokens."""
    return "rope_embed.periods" in shapes or "storage_tokens" in shapes


DEPTH_MODELS = (("pretrained.", "depth_head.scratch."), ("backbone.", "decode_head.reassemble_blocks."))
"""What the keys of a backbone and some of its depth head's begin with, in Depth Anything and in DINOv2's own.

A model of a user's may well have a ``pretrained.`` and a ``depth_head.`` of another kind.
"""


def has_each(shapes: Shapes, prefixes: Iterable[str]) -> bool:
    """Whether there are keys that begin with each of these."""
    return all(any(key.startswith(prefix) for key in shapes) for prefix in prefixes)


def has_depth_head(shapes: Shapes) -> bool:
    """Whether a depth head lies beside its backbone: Depth Anything's, or one of DINOv2's authors."""
    return any(has_each(shapes, prefixes) for prefixes in DEPTH_MODELS)


def check_heads(embed_dim: int, num_heads: int) -> int:
    """Check that the width divides by the number of attention heads, and return that.

    Raises:
        CheckpointError: it does not.
    """
    if num_heads < 1 or embed_dim % num_heads:
        raise CheckpointError(
            f"A width of {embed_dim} cannot have {num_heads} attention heads.",
            hint="Give as many as the model was trained with: num_attention_heads (--num-attention-heads).",
        )
    return num_heads


def guess_heads(embed_dim: int) -> int | None:
    """Guess the number of heads that most models of this width have; None if it does not divide."""
    return embed_dim // HEAD_DIM if embed_dim % HEAD_DIM == 0 else None


@lru_cache(maxsize=8)
def build_on_meta(build_original: Callable[[Any], nn.Module], spec: object) -> StateDict:
    """Build an original's state dict on the meta device. It takes no memory, but time, so the last few are kept."""
    with torch.device("meta"):
        return build_original(spec).state_dict()
