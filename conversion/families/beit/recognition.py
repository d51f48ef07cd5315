"""BEiT: what a model is made of beside the architecture, and what its tensors leave open."""

from typing import Any

from conversion.errors import CheckpointError
from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture import recognition as architecture
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.shapes import WHOLE, count_blocks
from conversion.mapping.key_map import Shapes

CLS_LAYERS = "cls_pt_layers."


def recognise_spec(shapes: Shapes, **settings: Any) -> BeitSpec:
    """Read the spec off the shapes of an original state dict.

    Args:
        settings: what shapes cannot tell, by the names of the architecture's settings.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    num_cls_layers, problems = count_blocks(shapes, CLS_LAYERS)
    if num_cls_layers and "lm_head.weight" not in shapes:
        problems.append("lm_head.weight: missing, though there are blocks of BEiT v2's pretraining")
    if problems:
        raise CheckpointError("This cannot be recognised as a BEiT model.", problems, WHOLE)
    return architecture.recognise_spec(BeitSpec, shapes, **settings, num_cls_layers=num_cls_layers)


def find_lookalikes(spec: BeitSpec, _dropped: Shapes) -> tuple[str, ...]:
    """List the other kinds of models that have the same shapes: BEiT v2's, but for those with the blocks it added."""
    return () if spec.num_cls_layers else ("beitv2",)


def list_open(shapes: Shapes) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None.

    Images of BEiT have a mean and standard deviation of 0.5, those of v2 and of segmentation ImageNet's.
    """
    is_imagenets = "decode_head.conv_seg.weight" in shapes or any(key.startswith(CLS_LAYERS) for key in shapes)
    return architecture.list_open(shapes, (IMAGENET_MEAN, IMAGENET_STD) if is_imagenets else None)
