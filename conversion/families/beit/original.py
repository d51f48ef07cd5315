"""BEiT as its authors compute it: the architecture, and the blocks of v2's pretraining that no output depends on."""

from torch import nn

from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture import segmentation
from conversion.families.beit_architecture.original import Block, MaskedImageModel


class MaskedImageModelV2(MaskedImageModel):
    """Pretrained by BEiT v2, whose second loss sees the CLS token and an early block's patches through more blocks."""

    def __init__(self, spec: BeitSpec) -> None:
        super().__init__(spec)
        self.cls_pt_layers = nn.ModuleList(Block(spec) for _ in range(spec.num_cls_layers))


def build_original(spec: BeitSpec) -> nn.Module:
    """Build the original model of this spec."""
    return MaskedImageModelV2(spec) if spec.num_cls_layers else segmentation.build_original(spec)
