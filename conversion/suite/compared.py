"""A folder under test beside the checkpoint that it is said to be of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from conversion.artifact.differences import read_found
from conversion.errors import ArtifactError, ConversionError
from conversion.families.base import Family
from conversion.families.linear_head import HEAD_PREFIX
from conversion.mapping.key_map import shapes_of
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import read_config
from conversion.state_dicts.restore import find_family
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
    def _found(self) -> tuple[Family[Any], Any] | None:
        """Family and spec of the folder's model; None where its config describes none."""
        try:
            config = read_config(self.folder)
            family = find_family(config)
            return family, family.read_config(config)
        except Exception:  # whatever transformers makes of it: its settings are compared, which says so
            return None

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What its user tells; and what the folder's model returns, of the blocks that it returns the outputs of."""
        if self._found is None:
            return super().overrides
        family, spec = self._found
        told = {name: getattr(spec, name) for name in family.returned if getattr(spec, name) not in (None, ())}
        shapes = shapes_of(self.read)
        # a classifier returns nothing of this, and another family's model knows nothing of it
        returns = family.matches(shapes) and not any(key.startswith(HEAD_PREFIX) for key in shapes)
        return {**(told if returns else {}), **super().overrides}

    @cached_property
    def converted(self) -> Conversion:
        """What a conversion of the original gives, baked for the size that the folder was baked for."""
        native = self.convert(None)
        # of a depth model it stands in the config of the backbone within
        size = self._found[1].image_size if self._found else getattr(read_config(self.folder), "image_size", None)
        if not native.spec.any_size or not isinstance(size, int) or size < 1 or size % native.spec.patch_size:
            return native
        if size == native.spec.image_size:
            return native
        baked, found = self.convert(size), shapes_of(read_found(self.folder))
        wanted, own = shapes_of(baked.state_dict), shapes_of(native.state_dict)
        changed = [key for key, shape in wanted.items() if shape != own[key]]
        return baked if all(found.get(key) == wanted[key] for key in changed) else native

    @property
    def told_labels(self) -> tuple[str, ...]:
        """The class names that the checkpoint tells, or a file beside it; none where they are of another number."""
        told = self.checkpoints["checkpoint"].state_dict.labels or ()
        return told if len(told) == self.converted.spec.num_classes else ()

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
