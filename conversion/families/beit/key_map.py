"""BEiT: where each original tensor goes in the on-disk layout of transformers, beside those of the architecture."""

from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture import key_map as architecture
from conversion.mapping.key_map import KeyMap

BLOCK, CLS_LAYER = "blocks.{}.", "cls_pt_layers.{}."

# pattern: reason
DROPPED = {
    **architecture.DROPPED,
    "cls_pt_norm.*": "norm of the head that predicts visual words from the class token, used in training only",
    "cls_pt_lm_head.*": "head that predicts visual words from the class token, used in training only",
}

# pattern: reason
UNPLACED = {
    "cls_pt_layers.*": "blocks that train the class token, used in pretraining only; transformers' model has none",
}


def select_key_map(spec: BeitSpec, _major: int) -> KeyMap:
    """Select the rows that a model of this spec has; on disk, transformers 5 has the names of 4."""
    rows = architecture.select_key_map(spec, major=4)
    of_block = [key.removeprefix(BLOCK) for key in rows if key.startswith(BLOCK)]
    layers = range(spec.num_cls_layers)
    return {**rows, **{CLS_LAYER.format(index) + name: "" for index in layers for name in of_block}}
