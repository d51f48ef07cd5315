"""Read off the shapes of its tensors what a model is made of: what families share."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from conversion.errors import CheckpointError
from conversion.families.told import AUTHORS, TIMM, Setting
from conversion.mapping.key_map import Shapes

HEAD_DIM = 64
"""Width of an attention head in every official model."""


def parse_integer(value: Any) -> int:
    """Parse a whole number from 1 up."""
    return _parse_from(1, value)


def parse_count(value: Any) -> int:
    """Parse a whole number from 0 up."""
    return _parse_from(0, value)


def parse_integers(value: Any) -> tuple[int, ...]:
    """Parse several whole numbers from 0 up, given as numbers or as text with commas."""
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


def parse_positive(value: Any) -> float:
    """Parse a number above 0."""
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{value!r} is not a number above 0")
    return number


def parse_offset(value: Any) -> float:
    """Parse a number from 0 to below 1."""
    number = float(value)
    if not 0 <= number < 1:
        raise ValueError(f"{value!r} is not a number from 0 to below 1")
    return number


def parse_flag(value: Any) -> bool:
    """Parse true or false."""
    flags = {"true": True, "false": False}
    if str(value).lower() not in flags:
        raise ValueError(f"{value!r} is neither true nor false")
    return flags[str(value).lower()]


def parse_choice(*choices: str) -> Callable[[Any], str]:
    """Build the parser of one of a few words."""

    def parse(value: Any) -> str:
        if value not in choices:
            supported = ", ".join(map(repr, choices))
            raise ValueError(f"{value!r} is not supported; only {supported}")
        return str(value)

    return parse


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


OF_ANYBODY = frozenset({AUTHORS, TIMM})

GLOBAL_POOL_HELP = "what a timm or linear classifier of one vector pools, without timm's config.json: token or avg"


def parse_pooling(value: Any) -> str:
    """Parse what a classifier pools: the CLS token, also where timm pools nothing, or the mean of the patches."""
    return parse_choice("token", "avg")(value or "token")


TRANSFORMER_SETTINGS = {
    "num_attention_heads": Setting("num_heads", parse_integer, "number of attention heads", neutral=1),
    "layer_norm_eps": Setting("layer_norm_eps", parse_positive, "epsilon of the layer norms", fixed_by=OF_ANYBODY),
    "hidden_act": Setting("", str, "activation of the feed-forward", fixed_by=OF_ANYBODY, is_option=False),
    "global_pool": Setting("", parse_pooling, GLOBAL_POOL_HELP, fixed_by=OF_ANYBODY),
}
"""What tensors cannot tell of any vision transformer."""
