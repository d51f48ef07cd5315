"""Data2Vec-Vision by the authors' own code, from a clone of facebookresearch/data2vec_vision."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conversion.families.beit_architecture.external import FOLDER, Authors, build, find_classifier, list_obstacles
from conversion.families.data2vec_vision.config import Data2VecVisionSpec


class Pretrained(nn.Module):
    """What makes ``VisionTransformerForCyclicalTraining`` take and return what the bundled original does."""

    forward_features: Any

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``last_hidden_state`` ``(B, T, D)``; the authors' own forward goes on to the targets."""
        return {"last_hidden_state": self.forward_features(pixel_values, bool_masked_pos, layer_results=None)}


PRETRAINED = Authors(Pretrained, FOLDER, "modeling_cyclical", "VisionTransformerForCyclicalTraining", {})


def build_external(spec: Data2VecVisionSpec, clone: Path) -> nn.Module:
    """Build the authors' model of this spec.

    Args:
        clone: the folder that has ``beit/modeling_finetune.py``, or its ``beit``.

    Raises:
        CheckpointError: it is no such clone, lacks packages, or has no class for models of this spec.
    """
    authors = PRETRAINED if spec.task == "backbone" else find_classifier(spec)
    return build(spec, clone, authors, list_obstacles(spec))
