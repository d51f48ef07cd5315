"""Data2Vec-Vision: the golden model of each task, official ones without values, and how any of them is converted."""

import warnings
from dataclasses import replace
from typing import Any

from torch import Tensor

import conversion
from conversion import VARIANTS, Conversion
from conversion.families.base import load_family, tell_settings
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from tests.support.golden import NORMALISATION, read_golden

FAMILY = load_family("data2vec_vision")
"""The family of all that is here."""

PRETRAINED = read_golden("data2vec_vision_tiny")
CLASSIFIER = read_golden("data2vec_vision_tiny_ft1k")
SEGMENTATION = read_golden("data2vec_vision_tiny_ade20k")
"""The golden models: as pretrained, classifying images, and segmenting them."""


def official_tensors(name: str, **changes: Any) -> dict[str, Tensor]:
    """An official variant's state dict without values, or one that differs from it."""
    return FAMILY.original_tensors(replace(FAMILY.spec_of(VARIANTS[name]), **changes))


def tell(spec: Data2VecVisionSpec) -> dict[str, Any]:
    """What shapes cannot tell."""
    told = tell_settings(FAMILY, spec, "out_indices", "pool_scales", "image_mean", "image_std", "crop_pct")
    has_tables = spec.shared_position_bias or spec.block_position_bias
    return told if has_tables else told | {"num_attention_heads": spec.num_heads}


def convert_quietly(state_dict: dict[str, Tensor], **settings: Any) -> Conversion:
    """Convert a model of either normalisation."""
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(state_dict, **{"family": FAMILY.name, **NORMALISATION, **settings})
