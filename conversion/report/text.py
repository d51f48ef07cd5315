"""Text for terminals."""

import textwrap

WIDTH = 80
"""Columns that text is folded to."""


def fold(text: str, indent: int = 0) -> list[str]:
    """The lines of a text, none wider than a terminal."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
