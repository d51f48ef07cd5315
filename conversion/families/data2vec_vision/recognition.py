"""Data2Vec-Vision: which BEiT-like models may be its own, and what most of these have."""

from conversion.families.beit_architecture import recognition
from conversion.families.beit_architecture.recognition import is_beit_like
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.shapes import has_any
from conversion.mapping.key_map import Shapes


def is_data2vec_vision(shapes: Shapes) -> bool:
    """Whether these may be a Data2Vec-Vision model's keys, and are not certainly a BEiT's.

    Of pretrained models the head tells: Data2Vec predicts features as wide as the tokens, BEiT the words of a visual
    vocabulary.
    """
    targets, tokens = shapes.get("lm_head.weight"), shapes.get("cls_token", (0,))
    is_beits = targets is not None and len(targets) == 2 and targets[0] != tokens[-1]
    return is_beit_like(shapes) and not is_beits and not any(key.startswith("cls_pt_layers.") for key in shapes)


def find_lookalikes(spec: Data2VecVisionSpec, dropped: Shapes) -> tuple[str, ...]:
    """List the other kinds of models that have the same shapes: BEiT's, in both versions."""
    return () if spec.task == "backbone" and has_any(dropped, "lm_head.weight") else ("beit", "beitv2")


def list_open(shapes: Shapes) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None.

    Images of Data2Vec-Vision's classifiers have a mean and standard deviation of 0.5, as those of BEiT's; those of
    BEiT v2's have ImageNet's, as those of all segmentation models.
    """
    is_classifier = has_any(shapes, "fc_norm.weight") or "head.weight" in shapes
    return recognition.list_open(shapes, None if is_classifier else (IMAGENET_MEAN, IMAGENET_STD))
