"""What families need to read a model's make off the shapes of its tensors."""

from collections.abc import Mapping
from typing import Any

from conversion.errors import CheckpointError
from conversion.mapping.key_map import Shapes

HEAD_DIM = 64
"""Width of an attention head in every official model."""


NUM_ATTENTION_HEADS_HELP = "of --checkpoint, where shapes do not tell and it is not width / 64"


def parse_integer(value: Any) -> int:
    """A whole number from 1 up, as itself or as text."""
    return _parse_from(1, value)


def parse_count(value: Any) -> int:
    """A whole number from 0 up, as itself or as text."""
    return _parse_from(0, value)


def parse_integers(value: Any) -> tuple[int, ...]:
    """Several whole numbers from 0 up, as themselves or as text with commas."""
    return tuple(map(parse_count, value.split(",") if isinstance(value, str) else value))


def _parse_from(least: int, value: Any) -> int:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"{value!r} is no whole number from {least} up")
    return number


WHOLE = "Give a whole model of this family, as its training saved it; of several, choose with --entry."
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
    """How many blocks there are, and what is wrong with their numbering."""
    numbers = {
        int(number)
        for key in shapes
        if key.startswith(prefix) and (number := key.removeprefix(prefix).partition(".")[0]).isdecimal()
    }
    if not numbers or max(numbers) + 1 == len(numbers):
        return len(numbers), []
    absent = next(index for index in range(len(numbers) + 1) if index not in numbers)
    return len(numbers), [f"{prefix}{absent}.*: missing, though there are blocks up to {max(numbers)}"]


def choose_heads(embed_dim: int, num_attention_heads: int | None) -> int:
    """The number of attention heads: as given, else as in the official models.

    Raises:
        CheckpointError: the width does not divide by it.
    """
    num_heads = num_attention_heads if num_attention_heads is not None else embed_dim // HEAD_DIM
    if num_heads < 1 or embed_dim % num_heads:
        given = "given" if num_attention_heads is not None else f"assumed from width / {HEAD_DIM}"
        raise CheckpointError(
            f"A width of {embed_dim} cannot have {num_heads} attention heads ({given}).",
            hint="Shapes cannot tell the number of heads: give num_attention_heads (--num-attention-heads).",
        )
    return num_heads
