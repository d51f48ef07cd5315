"""A folder under test beside the checkpoint that it is said to be of."""

from dataclasses import dataclass, field
from pathlib import Path

from conversion.suite.folder import FoundSubject


@dataclass
class ComparedSubject(FoundSubject):
    """The original of the checkpoint beside the model that ``from_pretrained`` loads from a folder.

    Attributes:
        folder: that is compared.
    """

    folder: Path = field(default_factory=Path)

    @property
    def directory(self) -> Path:
        return self.folder
