"""DINOv2 with its authors' depth head: where each original tensor goes in the on-disk layout of transformers.

Both number the fusion layers from the coarsest map. Nothing is added to that, so the original's first layer has no unit
for it; transformers' has one, of zeros.
"""

from conversion.families.depth_architecture import key_map as architecture
from conversion.families.depth_architecture.config import NUM_FEATURES
from conversion.families.depth_architecture.key_map import BOTH, WEIGHT, Modules
from conversion.families.dinov2_depth.config import Dinov2DepthSpec
from conversion.mapping.key_map import KeyMap

HEAD, STAGE = "decode_head.", "neck.reassemble_stage"


def _list_unit(unit: int, layer: int) -> Modules:
    """The two convolutions of a unit of a fusion layer."""
    source = f"{HEAD}fusion_blocks.{layer}.res_conv_unit{unit}"
    target = f"neck.fusion_stage.layers.{layer}.residual_layer{unit}"
    return {f"{source}.conv{index}.conv": (f"{target}.convolution{index}", WEIGHT) for index in (1, 2)}


def _list_feature(index: int) -> Modules:
    blocks, layer = f"{HEAD}reassemble_blocks", f"{STAGE}.layers.{index}"
    resize = {} if index == 2 else {f"{blocks}.resize_layers.{index}": (f"{layer}.resize", BOTH)}
    return {
        f"{blocks}.readout_projects.{index}.0": (f"{STAGE}.readout_projects.{index}.0", BOTH),
        f"{blocks}.projects.{index}.conv": (f"{layer}.projection", BOTH),
        **resize,
    }


def _list_fusion(layer: int) -> Modules:
    project = f"{HEAD}fusion_blocks.{layer}.project.conv"
    first = _list_unit(1, layer) if layer else {}
    return {**first, **_list_unit(2, layer), project: (f"neck.fusion_stage.layers.{layer}.projection", BOTH)}


MODULES: Modules = {
    **{source: row for index in range(NUM_FEATURES) for source, row in _list_feature(index).items()},
    **{f"{HEAD}convs.{index}.conv": (f"neck.convs.{index}", WEIGHT) for index in range(NUM_FEATURES)},
    **{source: row for layer in range(NUM_FEATURES) for source, row in _list_fusion(layer).items()},
    f"{HEAD}project.conv": ("head.projection", BOTH),
    **{f"{HEAD}conv_depth.head.{index}": (f"head.head.{index}", BOTH) for index in (0, 2, 4)},
}
"""Modules in the order of the computation."""

COARSEST_UNIT: Modules = _list_unit(1, 0)

UNUSED: Modules = {"backbone.norm": ("backbone.layernorm", BOTH)}
"""The head sees features before the backbone's final norm."""


def select_key_map(spec: Dinov2DepthSpec, major: int) -> KeyMap:
    """Select the rows that a model of this spec has."""
    return architecture.select_key_map(spec, major, MODULES, COARSEST_UNIT if spec.coarsest_unit else {})
