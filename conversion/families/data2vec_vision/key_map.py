"""Data2Vec-Vision: where each original tensor goes in the on-disk layout of transformers, as the architecture does."""

from conversion.families.beit_architecture import key_map as architecture
from conversion.families.beit_architecture.key_map import select_key_map

__all__ = ["DROPPED", "select_key_map"]

# pattern: reason
DROPPED = {
    "lm_head.*": "predicts the targets of pretraining; transformers' model has no place for it",
    **architecture.DROPPED,
}
