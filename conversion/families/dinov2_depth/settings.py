"""DINOv2 with its authors' depth head: what tensors cannot tell."""

from conversion.families.depth_architecture.settings import SETTINGS

__all__ = ["SETTINGS"]
