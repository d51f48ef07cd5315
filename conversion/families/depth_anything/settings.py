"""Depth Anything: what tensors cannot tell."""

from conversion.families.depth_architecture import settings as architecture
from conversion.families.settings import CROP_SETTINGS

SETTINGS = {**architecture.SETTINGS, "input_size": CROP_SETTINGS["input_size"]}
"""Its image processor makes the shorter side of an image so long."""
