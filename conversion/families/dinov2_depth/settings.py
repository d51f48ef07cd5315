"""DINOv2 with its authors' depth head: what tensors cannot tell."""

from dataclasses import replace

from conversion.families.depth_architecture import settings as architecture
from conversion.families.settings import parse_integer

SETTINGS = {
    **architecture.SETTINGS,
    "max_depth": replace(architecture.SETTINGS["max_depth"], parse=parse_integer),  # none of them is relative
}
