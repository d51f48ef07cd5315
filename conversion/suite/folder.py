"""A folder under test that ``from_pretrained`` reads already: somebody else's conversion, or an artifact of before."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from conversion.artifact.card import hash_file
from conversion.artifact.checks import check_card, check_settings
from conversion.artifact.files import list_files
from conversion.artifact.load import load_model
from conversion.artifact.settings import list_sizes
from conversion.errors import concerning
from conversion.families.base import load_family
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import PARITY_CARD, PREPROCESSOR
from conversion.suite.inputs import InputCase, list_inputs
from conversion.suite.subject import Subject

CONSISTENT = "consistent with itself"
"""All that is claimed of a folder without the checkpoint that it was converted from."""

COMPARED_WITH_ITSELF = (
    f"{CONSISTENT}, and not more: the folder was compared with the original that its own tensors restore to. Whether "
    "they are those of some checkpoint is not proven: that takes the checkpoint itself"
)


class FoundSubject(Subject):
    """A model that lies in a folder already, verified as it is: nothing is converted or written."""

    @cached_property
    def inputs(self) -> list[InputCase]:
        """The inputs that need no baked artifact; the photo only where there is an image processor."""
        if not (self.directory / PREPROCESSOR).exists() or not self.converted.preprocessor:
            cases = list_inputs(self.converted.spec, self.converted.input_size, self.converted.baked)
            return self._select_inputs([case for case in cases if case.baked is None and not case.photo])
        spec, side = self.converted.spec, min(self.processed_photo.shape[-2:])
        cases = [case for case in list_inputs(spec, side, self.converted.baked) if case.baked is None]
        # of another size than native nothing can be said where nobody told how positions are resampled
        return self._select_inputs([case for case in cases if spec.any_size or case.height == spec.image_size])

    def load(self, _image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        model: nn.Module = load_model(self.directory, attention=attention, dtype=dtype)
        return model.to(device)


class FolderSubject(FoundSubject):
    """The folder itself is compared with the original that its tensors restore to; nothing is written."""

    claim = CONSISTENT

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
            sizes = list_sizes(load_family(out.family), out.spec)
            check_settings(out, self.directory, labels=self.request.labels or (), sizes=sizes)
        gone = self.checkpoints["checkpoint"].gone
        return replace(out, notes=tuple(filter(None, (*out.notes, gone, COMPARED_WITH_ITSELF))))

    def restore(self) -> dict[str, Tensor]:
        return self.checkpoints["checkpoint"].state_dict
