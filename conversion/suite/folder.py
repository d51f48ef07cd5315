"""A folder under test that ``from_pretrained`` reads already: somebody else's conversion, or an artifact of before."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from conversion.artifact.card import hash_file
from conversion.artifact.checks import check_config
from conversion.artifact.files import list_files
from conversion.artifact.load import load_model
from conversion.artifact.stage import check_card
from conversion.errors import concerning
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import PARITY_CARD, PREPROCESSOR
from conversion.suite.inputs import InputCase, list_inputs
from conversion.suite.subject import Subject

VERIFIED_AS_IT_IS = "the folder is verified as it is: the original beside it is what its own tensors restore to"


class FolderSubject(Subject):
    """The folder itself is compared with the original that its tensors restore to; nothing is written."""

    @property
    def directory(self) -> Path:
        folder = self.checkpoints["checkpoint"].folder
        assert folder is not None
        return folder

    @cached_property
    def hashes(self) -> dict[str, str]:
        return {name: hash_file(path) for name, path in list_files(self.directory).items() if path.exists()}

    @cached_property
    def converted(self) -> Conversion:
        """What a conversion of the restored original gives; of the folder, config and card are checked with it."""
        out = self.convert(None)
        with concerning(self.directory):
            if (self.directory / PARITY_CARD).exists():
                check_card(self.directory)
            check_config(out, self.directory, self.request.labels or ())
        return replace(out, notes=(*out.notes, VERIFIED_AS_IT_IS))

    @cached_property
    def inputs(self) -> list[InputCase]:
        """Those of an artifact, but for twins, which are conversions; the photo where there is an image processor."""
        if not (self.directory / PREPROCESSOR).exists():
            cases = list_inputs(self.converted.spec, self.converted.input_size, None)
            return self._select_inputs([case for case in cases if case.baked is None and not case.photo])
        cases = list_inputs(self.converted.spec, self.processed_photo.shape[-1], None)
        return self._select_inputs([case for case in cases if case.baked is None])

    def restore(self) -> dict[str, Tensor]:
        return self.checkpoints["checkpoint"].state_dict

    def load(self, _image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        model: nn.Module = load_model(self.directory, attention=attention, dtype=dtype)
        return model.to(device)
