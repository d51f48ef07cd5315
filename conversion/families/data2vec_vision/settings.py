"""Data2Vec-Vision: what tensors cannot tell."""

from conversion.families.beit_architecture.settings import SETTINGS

__all__ = ["SETTINGS"]
