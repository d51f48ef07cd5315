"""BEiT: what its models are called in transformers, and what only their config has to say of the original."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from conversion.families.beit_architecture import config as architecture
from conversion.families.beit_architecture.config import BeitLikeSpec, limit_out_indices

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NUM_CLS_LAYERS, ORIGINAL_OUT_INDICES = "num_cls_layers", "original_out_indices"
"""Fields of a converted model's config about what transformers has no place for: how many blocks it lacks, and of which
blocks, counted from 0, it cannot take the outputs. It keeps fields that it does not know. No output depends on them."""


@dataclass(frozen=True, kw_only=True)
class BeitSpec(BeitLikeSpec):
    """All that a BEiT model depends on.

    Attributes:
        num_cls_layers: blocks that v2's pretraining has beside the others, so that the CLS token learns to speak for
            the whole image. What the model returns does not depend on them.
    """

    HF_NAME: ClassVar[str] = "Beit"
    HF_PREFIX: ClassVar[str] = "beit."

    num_cls_layers: int = 0

    @property
    def reachable(self) -> tuple[int, ...]:
        """Of segmentation, the blocks whose outputs transformers takes for those that it should."""
        return limit_out_indices(self.out_indices, self.depth)


def build_config(spec: BeitSpec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """Build the transformers config, with every value that the outputs depend on."""
    own: dict[str, object] = {NUM_CLS_LAYERS: spec.num_cls_layers} if spec.num_cls_layers else {}
    if spec.reachable != spec.out_indices:
        own[ORIGINAL_OUT_INDICES] = list(spec.out_indices)
    return architecture.build_config(replace(spec, out_indices=spec.reachable), labels, **own)


def read_config(config: "PretrainedConfig") -> BeitSpec:
    """Read the spec that a transformers config describes; the inverse of :func:`build_config`."""
    spec = architecture.read_config(BeitSpec, config, num_cls_layers=getattr(config, NUM_CLS_LAYERS, 0))
    out_indices = getattr(config, ORIGINAL_OUT_INDICES, None)
    return replace(spec, out_indices=tuple(out_indices)) if out_indices else spec
