"""DINOv2 with a depth head: known deviations of transformers."""

from dataclasses import replace
from typing import Any

from conversion.families.dinov2 import deviations as dinov2
from conversion.parity.deviations import Deviation

POSITION_EMBEDDINGS = replace(
    dinov2.POSITION_EMBEDDINGS,
    where="every image size but the native one, which is that of few photos",
    size="on depth, a relative RMS of 1.7 % at 518 x 686 and of 5.7 % at 224 x 224 with synthetic weights of a ViT-S",
    remedy="bake the original's resampling for one square size with --image-size; for any size, put the original's "
    "resampling into the model after loading: docs/ledger.md has the lines",
)


def _has_other_features(config: Any, spec: Any) -> bool:
    return tuple(config.backbone_config.out_indices) != tuple(index + 1 for index in spec.out_indices)


FEATURE_INDICES = Deviation(
    name="feature-indices",
    where="models whose backbone's config has the original's numbers of the blocks, or none",
    cause="transformers counts the embeddings as 0 and the first block's output as 1; by default it takes the last "
    "blocks, one or four",
    size="6.6 of 9.3 with the original's numbers, 7.9 with the last four blocks, on the recorded relative model",
    counterfactual="the original with the features of these blocks",
    remedy="write out_indices with 1 added into the backbone's config",
    avoided=True,
    in_config=_has_other_features,
)
