"""What was rounded when weights were read, as a card's steps of intake say it."""

import re
from collections.abc import Mapping
from typing import Any

import torch

CAST = re.compile(r"cast from (.+) to torch\.(\w+)$")
"""How the step of intake that casts says what it did."""


def find_rounding(card: Mapping[str, Any]) -> tuple[str, str]:
    """Find what was rounded when the weights were read, in words, and to which dtype; nothing where nothing was."""
    steps = (step for checkpoint in card["source"]["checkpoints"].values() for step in checkpoint["intake"])
    casts = (step["did"] for step in steps if step["name"] == "cast")
    found = ((did, *match.groups()) for did in casts if (match := CAST.search(did)))
    return next(((did, after) for did, before, after in found if _rounds(before, after)), ("", ""))


def _rounds(before: str, after: str) -> bool:
    target = getattr(torch, after)
    own = (getattr(torch, name.strip().removeprefix("torch.")) for name in before.split(","))
    return not all(can_hold(target, dtype) for dtype in own)


def can_hold(wider: torch.dtype, dtype: torch.dtype) -> bool:
    """Whether a dtype has every value of another one."""
    try:
        return torch.promote_types(wider, dtype) == wider
    except RuntimeError:  # floats of eight bits have nothing in common with others
        return wider == dtype
