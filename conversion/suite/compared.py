"""A folder under test beside the checkpoint that it is said to be of."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from conversion.errors import ArtifactError, ConversionError
from conversion.state_dicts.folder import read_config
from conversion.suite.folder import FoundSubject
from conversion.suite.inputs import InputCase


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

    @cached_property
    def has_mask_token(self) -> bool:
        """Whether the model in the folder is built with one, where the original has one."""
        return bool(getattr(read_config(self.folder), "use_mask_token", True)) or not self.converted.spec.mask_token

    def _select_inputs(self, cases: list[InputCase]) -> list[InputCase]:
        """Leave out what either model does not take."""
        return [case for case in super()._select_inputs(cases) if self.has_mask_token or not case.masked]

    def load(self, image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        try:
            return super().load(image_size, device, dtype, attention)
        except ConversionError:
            raise
        except Exception as error:  # transformers raises nearly everything on files that it does not expect
            said = (str(error).strip().splitlines() or [""])[0][:300]
            problems = [f"{type(error).__name__}: {said}"]
            raise ArtifactError(f"{self.folder}: is not what from_pretrained loads.", problems) from error
