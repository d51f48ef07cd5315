"""DINOv2 with a depth head: where each original tensor goes in the on-disk layout of transformers.

A head is a table of modules: the original's name to transformers', with the tensors that each has.
"""

from collections.abc import Mapping

from conversion.families.depth_architecture.config import DepthSpec
from conversion.families.dinov2 import key_map as dinov2
from conversion.mapping.key_map import KeyMap

BOTH, WEIGHT = (".weight", ".bias"), (".weight",)

Modules = Mapping[str, tuple[str, tuple[str, ...]]]
"""The original's module to transformers', and the endings of its tensors' keys."""


def select_key_map(spec: DepthSpec, major: int, *heads: Modules) -> KeyMap:
    """Select the rows that a model of this spec has.

    Args:
        heads: tables of the modules beside the backbone.
    """
    rows = {
        source + ending: target + ending
        for head in heads
        for source, (target, endings) in head.items()
        for ending in endings
    }
    return {**dinov2.select_key_map(spec, major), **rows}
