"""Depth Anything: what a model is made of, from the shapes found, and what these leave open."""

from functools import partial
from typing import Any

from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.depth_anything.settings import SETTINGS
from conversion.families.depth_architecture import recognition as architecture
from conversion.families.shapes import DEPTH_MODELS, has_each
from conversion.mapping.key_map import Shapes

BACKBONE, SCRATCH = DEPTH_MODELS[0]
HEAD = "depth_head."

is_depth_anything = partial(has_each, prefixes=DEPTH_MODELS[0])
"""Whether these keys are a Depth Anything model's."""


def recognise_spec(shapes: Shapes, **settings: Any) -> DepthAnythingSpec:
    """Read the spec off the shapes of an original state dict.

    Args:
        settings: what shapes cannot tell, by the names of the architecture's settings.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    project, fuse = f"{HEAD}projects.{{}}.weight", f"{SCRATCH}layer1_rn.weight"
    return architecture.recognise_spec(DepthAnythingSpec, shapes, BACKBONE, project, fuse, **settings)


list_open = partial(architecture.list_open, prefix=BACKBONE, settings=SETTINGS)
"""List the settings that shapes leave open, each with the value that most such models have, or None."""
