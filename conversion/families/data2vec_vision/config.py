"""Data2Vec-Vision: what its models are called in transformers."""

from dataclasses import dataclass
from typing import ClassVar

from conversion.families.beit_architecture.config import BeitLikeSpec


@dataclass(frozen=True, kw_only=True)
class Data2VecVisionSpec(BeitLikeSpec):
    """All that a Data2Vec-Vision model depends on."""

    HF_NAME: ClassVar[str] = "Data2VecVision"
    HF_PREFIX: ClassVar[str] = "data2vec_vision."
