"""What an exported model is, to whoever judges it: files, and a function that runs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

Run = Callable[[Tensor], dict[str, Tensor]]
"""From ``(B, C, height, width)`` to output and its value."""


def quote(error: Exception, line: int = 0) -> str:
    """A line of what a library said, the first unless told otherwise; the kind of error where it said nothing."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    return lines[line][:300] if lines else type(error).__name__


@dataclass(frozen=True)
class Exported:
    """A model that was written for a runtime.

    Attributes:
        runtime: name and version of what runs it.
        files: that it was written to.
        run: the graph that was written, as its user runs it.
        run_tapped: the same graph with what is looked at on the way among its outputs.
        facts: for the card, what else its user has to know, as the opset.
    """

    runtime: str
    files: tuple[Path, ...]
    run: Run
    run_tapped: Run
    facts: Mapping[str, Any] = field(default_factory=dict)
