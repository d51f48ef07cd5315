"""Data2Vec-Vision: where original and transformers model carry the same values: as in all of the architecture."""

from conversion.families.beit_architecture.capture import EXACT, list_stages

__all__ = ["EXACT", "list_stages"]
