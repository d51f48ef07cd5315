"""Data2Vec-Vision as its authors compute it: BEiT's architecture, pretrained to predict a teacher's features."""

from torch import nn

from conversion.families.beit_architecture import original, segmentation
from conversion.families.data2vec_vision.config import Data2VecVisionSpec


class PretrainedModel(original.PretrainedModel):
    """Pretrained: ``lm_head`` predicts the teacher's features at masked patches; it has a part in training only."""

    def __init__(self, spec: Data2VecVisionSpec) -> None:
        super().__init__(spec)
        self.lm_head = nn.Linear(spec.embed_dim, spec.embed_dim)


def build_original(spec: Data2VecVisionSpec) -> nn.Module:
    """Build the original model of this spec."""
    return PretrainedModel(spec) if spec.task == "backbone" else segmentation.build_original(spec)
