"""Whether two verification cards speak of the same weights, and what another one speaks of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conversion.families.told import write_value
from conversion.intake.folder_files import SUFFIXES_OF_WEIGHTS

REPEATABLE = ("synthetic", "pretrained")
"""Weights that can be drawn, or downloaded, again; others only their user has."""


def describe_other(present: Mapping[str, Any] | None, card: Mapping[str, Any]) -> str:
    """The model of a card, in words, where it is another than that of a second card; empty where it is the same.

    Args:
        present: of an artifact that is there, of whatever version; None where there is none.
    """
    if present is None:
        return ""
    try:
        files = _list_files(present)
        if _list_weights(present) == _list_weights(card) or (files and files == _list_files(card)):
            return ""
        return f"{present['variant']}, {_describe_source(present['source'])}"
    except (AttributeError, KeyError, TypeError, ValueError):  # a card that is not as its schema says
        return "a model whose card cannot be read"


def describe_other_settings(present: Mapping[str, Any] | None, card: Mapping[str, Any]) -> str:
    """How the same checkpoint was converted otherwise, in words; empty where it was not.

    Args:
        present: of an artifact that is there, of whatever version; None where there is none.
    """
    try:
        told = (one.get("told", {}) for one in (present or {}, card))
        before, now = ({name: write_value(each["value"]) for name, each in one.items()} for one in told)
        others = [f"{name} {value}" for name, value in before.items() if now.get(name) != value]
    except (AttributeError, KeyError, TypeError):  # a card that is not as its schema says
        return ""
    return f"the same checkpoint's model with {', '.join(others)}" if others else ""


def has_own_weights(card: Mapping[str, Any]) -> bool:
    """Whether a card speaks of weights that only their user has."""
    source = card.get("source")
    return not isinstance(source, dict) or source.get("weights") not in REPEATABLE


def _list_weights(card: Mapping[str, Any]) -> list[str]:
    """The hashes of a model's weights."""
    return sorted(sha256 for name, sha256 in card["result"].items() if Path(name).suffix in SUFFIXES_OF_WEIGHTS)


def _list_files(card: Mapping[str, Any]) -> dict[str, tuple[list[str], list[tuple[str, str]]]]:
    """Role to the hashes of the files that weights were read from, and to what was done to get at them."""
    return {
        role: (
            [file["sha256"] for file in each["files"]],
            [(step["name"], step["did"]) for step in each["intake"]],
        )
        for role, each in card["source"]["checkpoints"].items()
    }


def _describe_source(source: Mapping[str, Any]) -> str:
    names = [file["name"] for each in source["checkpoints"].values() for file in each["files"]]
    if source["weights"] == "synthetic":
        return f"drawn from seed {source['seed']}"
    return f"of {', '.join(names)}" if names else "of a state dict in memory"
