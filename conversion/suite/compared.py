"""A folder under test beside the checkpoint that it is said to be of; nothing is converted, nothing written."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from conversion.artifact.load import load_model
from conversion.state_dicts.folder import PREPROCESSOR
from conversion.suite.inputs import InputCase, list_inputs
from conversion.suite.subject import Subject


@dataclass
class ComparedSubject(Subject):
    """The original of the checkpoint beside the model that ``from_pretrained`` loads from a folder.

    Attributes:
        folder: that is compared.
    """

    folder: Path = field(default_factory=Path)

    @property
    def directory(self) -> Path:
        return self.folder

    @cached_property
    def inputs(self) -> list[InputCase]:
        """Those of an artifact, but for twins, which are conversions; the photo where there is an image processor."""
        has_processor = (self.folder / PREPROCESSOR).exists()
        side = self.processed_photo.shape[-1] if has_processor else self.converted.input_size
        cases = list_inputs(self.converted.spec, side, None)
        return self._select_inputs([case for case in cases if case.baked is None and (has_processor or not case.photo)])

    def load(self, _image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        model: nn.Module = load_model(self.folder, attention=attention, dtype=dtype)
        return model.to(device)
