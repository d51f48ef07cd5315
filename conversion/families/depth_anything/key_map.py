"""Depth Anything: where each original tensor goes in the on-disk layout of transformers.

The original numbers its fusion layers from the finest map, transformers from the coarsest. Nothing is added to the
coarsest map, so the first unit of its layer has no part in the depth; both have it.
"""

from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.depth_architecture import key_map as architecture
from conversion.families.depth_architecture.config import NUM_FEATURES
from conversion.families.depth_architecture.key_map import BOTH, WEIGHT, Modules
from conversion.mapping.key_map import KeyMap

PROJECT, RESIZE = "neck.reassemble_stage.layers.{}.projection", "neck.reassemble_stage.layers.{}.resize"
FUSION, SCRATCH = "neck.fusion_stage.layers.{}", "depth_head.scratch"


def _list_unit(unit: int, layer: int) -> Modules:
    """The two convolutions of a unit of a fusion layer, by transformers' number of it."""
    source = f"{SCRATCH}.refinenet{NUM_FEATURES - layer}.resConfUnit{unit}"
    target = f"{FUSION.format(layer)}.residual_layer{unit}"
    return {f"{source}.conv{index}": (f"{target}.convolution{index}", BOTH) for index in (1, 2)}


def _list_fusion(layer: int) -> Modules:
    source = f"{SCRATCH}.refinenet{NUM_FEATURES - layer}.out_conv"
    first = _list_unit(1, layer) if layer else {}
    return {**first, **_list_unit(2, layer), source: (f"{FUSION.format(layer)}.projection", BOTH)}


HEAD: Modules = {
    **{f"depth_head.projects.{i}": (PROJECT.format(i), BOTH) for i in range(NUM_FEATURES)},
    **{f"depth_head.resize_layers.{i}": (RESIZE.format(i), BOTH) for i in (0, 1, 3)},
    **{f"{SCRATCH}.layer{i + 1}_rn": (f"neck.convs.{i}", WEIGHT) for i in range(NUM_FEATURES)},
    **{source: row for layer in range(NUM_FEATURES) for source, row in _list_fusion(layer).items()},
    f"{SCRATCH}.output_conv1": ("head.conv1", BOTH),
    f"{SCRATCH}.output_conv2.0": ("head.conv2", BOTH),
    f"{SCRATCH}.output_conv2.2": ("head.conv3", BOTH),
}
"""Modules in the order of the computation."""

UNUSED: Modules = _list_unit(1, 0)


def select_key_map(spec: DepthAnythingSpec, major: int) -> KeyMap:
    """Select the rows that a model of this spec has."""
    return architecture.select_key_map(spec, major, HEAD, UNUSED)
