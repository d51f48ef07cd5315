"""Data2Vec-Vision: where original and transformers model carry the same values: as in all of the architecture."""

from conversion.families.beit_architecture.capture import list_stages

__all__ = ["EXACT", "list_stages"]

EXACT = frozenset({("cpu", "float32", "eager")})
"""Where bit for bit equality was reached: device type, dtype, attention."""
