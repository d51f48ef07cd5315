"""Depth Anything: what tensors cannot tell."""

from conversion.families.depth_architecture import settings as architecture
from conversion.families.settings import CROP_SETTINGS

SETTINGS = {**architecture.SETTINGS, "input_size": CROP_SETTINGS["input_size"]}
"""Its image processor brings one side of an image to that length."""
