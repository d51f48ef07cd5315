"""A settings file that lies beside a checkpoint: how it is opened, and what it comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from conversion.errors import CheckpointError
from conversion.families.timm_code import TELL_INSTEAD, Description
from conversion.families.told import Told
from conversion.intake.facts import Fact

LARGEST = 2**24
"""Bytes of a settings file; those that timm writes, with 21,841 class names, have less than a tenth of it."""


@dataclass(frozen=True)
class Beside:
    """What a file beside a checkpoint tells.

    Attributes:
        told: settings that no tensor tells.
        facts: what tensors tell, too, by the names of :func:`conversion.intake.facts.measure`: so a file of another
            model shows.
        labels: class names, in the order of the logits.
        timm: the architecture and its arguments, for timm's own code.
        is_itself: the file is the checkpoint's own.
        unplaced: what else it tells, which a converted model has no place for.
        otherwise: what else it tells, which is computed otherwise here.
    """

    file: Path
    told: Mapping[str, Told] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    timm: Description | None = None
    is_itself: bool = False
    unplaced: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()

    @property
    def did(self) -> str:
        """What it tells, in a line."""
        names = [*self.told, *(["the class names"] if self.labels else [])]
        did = [f"{self.file.name} tells {', '.join(names)}"] if names else []
        did += [f"left out, no place for it: {', '.join(self.unplaced)}"] if self.unplaced else []
        did += [f"{self.file.name} tells {', '.join(self.otherwise)}"] if self.otherwise else []
        return "; ".join(did)


def load_settings(path: Path, parse: Callable[[str], Any]) -> Any:
    """The content of a settings file; None where there is none.

    Raises:
        CheckpointError: it is there, and cannot be read.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise CheckpointError(
            f"{path}: has {path.stat().st_size:,} bytes, too many for a file of settings.", hint=TELL_INSTEAD
        )
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        headline = f"{path}: cannot be read ({type(error).__name__}), and lies beside or above the weights."
        raise CheckpointError(
            headline, [str(error)[:300]], f"Copy that file again. Or {TELL_INSTEAD[0].lower()}{TELL_INSTEAD[1:]}"
        ) from error
