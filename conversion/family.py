"""What every family offers, under the same names: its package's ``FAMILY``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from conversion.key_map import KeyMap, Shapes
from conversion.parity.compare import CapturePoint
from conversion.parity.deviations import Deviation
from conversion.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PretrainedConfig


class Spec(Protocol):
    """What all families' specs have in common."""

    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def hf_class(self) -> str: ...


S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class Family(Generic[S]):
    """The rooms of a family.

    Attributes:
        name: of its folder.
        model_types: the ``model_type`` of the transformers configs it produces.
        dropped: original keys that are not converted, shell-style pattern to reason.
        matches: whether an original state dict with these shapes is of this family.
        build_spec: the spec from keyword arguments.
        recognise_spec: the spec from shapes and, optionally, the number of attention heads.
        build_config, read_config: spec to transformers config, and back.
        select_key_map: the key map of a model of this spec.
        build_original: the original model of this spec.
        bake_image_size: tensors that change, and the new spec, for another native image size.
        build_image_processor: content of ``preprocessor_config.json`` for a crop size.
        build_transform: the original's evaluation transform for a crop size; ``as_processor`` for the counterfactual,
            with the processor's deviation in it.
        find_image_deviation: the ledger's entry that applies to an image's (width, height) at a crop size, if one does.
        crop_size: the official crop, in pixels.
        capture_points: for a spec; ``masked`` for a masked input.
        exact: (device type, dtype, attention) where bit for bit equality was reached before.
        find_deviation: the ledger's entry that applies to a spec at an input's height and width, if one does.
    """

    name: str
    model_types: tuple[str, ...]
    dropped: Mapping[str, str]
    matches: Callable[[Shapes], bool]
    build_spec: Callable[..., S]
    recognise_spec: Callable[[Shapes, int | None], S]
    build_config: Callable[[S], "PretrainedConfig"]
    read_config: Callable[["PretrainedConfig"], S]
    select_key_map: Callable[[S], KeyMap]
    build_original: Callable[[S], nn.Module]
    bake_image_size: Callable[[Mapping[str, Tensor], S, int], tuple[dict[str, Tensor], S]]
    build_image_processor: Callable[[int], dict[str, object]]
    build_transform: Callable[..., "Callable[[Image], Tensor]"]
    find_image_deviation: Callable[[tuple[int, int], int], Deviation | None]
    crop_size: int
    capture_points: Callable[..., list[CapturePoint]]
    find_deviation: Callable[[S, int, int], Deviation | None]
    exact: frozenset[tuple[str, str, str]]

    def original_shapes(self, spec: S) -> dict[str, tuple[int, ...]]:
        """Key to shape of the original state dict; built on the meta device, no memory is taken."""
        with torch.device("meta"):
            return {key: tuple(tensor.shape) for key, tensor in self.build_original(spec).state_dict().items()}

    def load_original(self, spec: S, state_dict: Mapping[str, Tensor]) -> nn.Module:
        """The original model with these very tensors as its weights (not copied), in eval mode."""
        with torch.device("meta"):
            model = self.build_original(spec)
        model.load_state_dict(state_dict, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def spec_of(self, variant: Variant) -> S:
        """The spec of an official variant."""
        return self.build_spec(**variant.spec)


@cache
def load_family(name: str) -> Family[Any]:
    """The family in folder ``name``."""
    family: Family[Any] = import_module(f"conversion.{name}").FAMILY
    return family


def families() -> list[Family[Any]]:
    """Every family that has a row in the table of variants."""
    return [load_family(name) for name in dict.fromkeys(variant.family for variant in VARIANTS.values())]
