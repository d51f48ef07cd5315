"""DINOv2 with a depth head: what such a model is made of."""

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from conversion.families.configs import ConfigTable, Recoded, read_fields
from conversion.families.dinov2 import config as dinov2
from conversion.families.dinov2.config import Dinov2Spec, read_features

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NUM_FEATURES = 4
"""Blocks whose outputs the head sees."""

REASSEMBLE_FACTORS = (4, 2, 1, 0.5)
"""How much finer than the patches each of these is made."""

PHOTO_SIZE = (640, 480)
"""Width and height in pixels of the photo of the proof."""

BESIDE_CONFIG = dinov2.BESIDE_CONFIG
"""Fields of the spec that transformers' config has no place for."""

FIELDS: ConfigTable = {
    "neck_hidden_sizes": Recoded("neck_widths", list, tuple),
    "fusion_hidden_size": "fusion_width",
}
"""Field of the config to field of the spec, beside those of the backbone's config."""


OFFSET, ANTIALIAS = 0.1, False
RESAMPLING = MappingProxyType({"interpolate_offset": OFFSET, "interpolate_antialias": ANTIALIAS})
"""How both models' code resamples position embeddings; it has no other way."""


@dataclass(frozen=True, kw_only=True)
class DepthSpec(Dinov2Spec):
    """All that the architecture depends on.

    Attributes:
        out_indices: the four blocks, counted from 0, whose outputs the head sees.
        neck_widths: channels of each of them as a map.
        fusion_width: channels in which the maps are added up.
        max_depth: the largest depth, in metres; 0 of a model whose depths have no unit.
    """

    num_register_tokens: int = 0
    interpolate_offset: float | None = OFFSET
    interpolate_antialias: bool | None = ANTIALIAS
    reshape_hidden_states: bool = False
    neck_widths: tuple[int, ...]
    fusion_width: int
    max_depth: int

    @property
    def task(self) -> str:
        """What the model is for."""
        return "depth-estimation"

    @property
    def takes_masks(self) -> bool:
        """Whether patches can be masked: the mask token is in the file, and neither model has a use for it."""
        return False

    @property
    def keeps_aspect(self) -> bool:
        """Whether an image keeps its aspect ratio on the way to the model."""
        return True

    @property
    def photo_size(self) -> tuple[int, int] | None:
        """Width and height of a small camera's photo, 4 by 3, which the photo of the proof is not."""
        return PHOTO_SIZE

    @property
    def hf_prefix(self) -> str:
        """Where the backbone lives in transformers' module tree and keys."""
        return "backbone."

    @property
    def backbone(self) -> Dinov2Spec:
        """The spec of the backbone by itself."""
        return Dinov2Spec(**{field.name: getattr(self, field.name) for field in fields(Dinov2Spec)})


S = TypeVar("S", bound=DepthSpec)


def build_backbone_config(spec: DepthSpec) -> dict[str, Any]:
    """Build the part of the transformers config that describes the backbone."""
    return {"backbone_config": dinov2.build_config(spec.backbone, ())}


def read_config(spec_class: type[S], config: "PretrainedConfig", **own: Any) -> S:
    """Read the spec that a transformers config describes.

    Args:
        own: fields of the spec that the family alone knows how to read.
    """
    backbone = dinov2.read_config(config.backbone_config)
    read = vars(backbone) | read_features(config.backbone_config) | read_fields(FIELDS, config)
    return spec_class(**{**read, "num_classes": 0, **own})
