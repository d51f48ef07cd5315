"""What goes wrong, said once and completely: one base class, one kind per stage."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_LISTED = 20
"""Problems printed in full; the rest are counted, so that a message stays readable."""


class ConversionError(Exception):
    """A conversion that cannot be trusted. The message lists every problem found, then the way out.

    Args:
        headline: what failed, with the file or variant it concerns.
        problems: one line each, naming key and shapes.
        hint: what the user can do about it.
    """

    def __init__(self, headline: str, problems: Iterable[str] = (), hint: str = "") -> None:
        self.headline = headline
        self.problems = tuple(problems)
        self.hint = hint
        super().__init__(_format(headline, self.problems, hint))

    def __reduce__(self) -> tuple[type["ConversionError"], tuple[str, tuple[str, ...], str]]:
        # pytest-xdist sends exceptions between processes; the default would rebuild from the message alone
        return type(self), (self.headline, self.problems, self.hint)


class VariantError(ConversionError):
    """An unknown variant, or weights of another variant than the one asked for."""


class CheckpointError(ConversionError):
    """A checkpoint file that cannot be opened, read safely, or recognised."""


class KeyMapError(ConversionError):
    """Keys left unmapped, missing or colliding, tensors of the wrong shape, or with values that are not numbers."""


class ArtifactError(ConversionError):
    """An artifact that cannot be written, does not load back, or differs from what was converted."""


class PublishError(ConversionError):
    """An artifact that is not published: of no real weights, refused by the Hub, or in the place of something else."""


class ExportError(ConversionError):
    """An export that cannot be made or run, or that computes something else than was asked for."""


class DeviceError(ConversionError):
    """A device, dtype or attention implementation that was asked for and is not there."""


class ConversionWarning(UserWarning):
    """What a user should know of a conversion that goes on: what was chosen, left out or filled in."""


@contextmanager
def concerning(path: str | Path) -> Iterator[None]:
    """Put the file's name before the message of whatever goes wrong with it."""
    try:
        yield
    except ConversionError as error:
        if error.headline.startswith((f"{path}:", f"{path}{os.sep}")):
            raise
        headline = f"{path}: {error.headline}"
        raise type(error)(headline, error.problems, error.hint) from error.__cause__


def _format(headline: str, problems: tuple[str, ...], hint: str) -> str:
    lines = [headline]
    lines += [f"  - {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"  - ... and {len(problems) - MAX_LISTED} more")
    if hint:
        lines.append(hint)
    return "\n".join(lines)
