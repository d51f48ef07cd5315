"""DINOv2 with its authors' depth head: what a model is made of, from the shapes found, and what these leave open."""

from functools import partial
from typing import Any

from conversion.errors import CheckpointError
from conversion.families.depth_architecture import recognition as architecture
from conversion.families.dinov2_depth.config import FUSION_WIDTH, Dinov2DepthSpec
from conversion.families.dinov2_depth.key_map import COARSEST_UNIT, HEAD
from conversion.families.dinov2_depth.settings import SETTINGS
from conversion.families.shapes import DEPTH_MODELS, has_each
from conversion.mapping.key_map import Shapes

BACKBONE, REASSEMBLE = DEPTH_MODELS[1]

is_dinov2_depth = partial(has_each, prefixes=DEPTH_MODELS[1])
"""Whether these keys are a DINOv2's with its authors' depth head."""


def recognise_spec(shapes: Shapes, **settings: Any) -> Dinov2DepthSpec:
    """Read the spec off the shapes of an original state dict.

    Args:
        settings: what shapes cannot tell, by the names of the architecture's settings.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    project, fuse = f"{REASSEMBLE}projects.{{}}.conv.weight", f"{HEAD}convs.0.conv.weight"
    own = {"apply_layernorm": False, "coarsest_unit": any(f"{key}.weight" in shapes for key in COARSEST_UNIT)}
    spec = architecture.recognise_spec(Dinov2DepthSpec, shapes, BACKBONE, project, fuse, own=own, **settings)
    if spec.fusion_width != FUSION_WIDTH:
        headline = (
            f"Its head adds maps up in {spec.fusion_width} channels; transformers' class takes {FUSION_WIDTH} alone."
        )
        raise CheckpointError(headline, hint="Use the model with the code that trained it.")
    return spec


list_open = partial(architecture.list_open, prefix=BACKBONE, settings=SETTINGS)
"""List the settings that shapes leave open, each with the value that most such models have, or None."""
