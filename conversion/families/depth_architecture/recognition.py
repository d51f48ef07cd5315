"""DINOv2 with a depth head: what a model is made of, from the shapes found, and what these leave open."""

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from conversion.errors import CheckpointError
from conversion.families.depth_architecture.config import NUM_FEATURES, DepthSpec
from conversion.families.dinov2 import recognition as dinov2
from conversion.families.published import OUT_INDICES
from conversion.families.shapes import WHOLE, find_misshapen
from conversion.families.told import write_value
from conversion.mapping.key_map import Shapes

S = TypeVar("S", bound=DepthSpec)


def take_backbone(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the backbone, under its own keys."""
    return {key.removeprefix(prefix): tuple(shape) for key, shape in shapes.items() if key.startswith(prefix)}


def recognise_spec(
    spec_class: type[S],
    shapes: Shapes,
    prefix: str,
    project: str,
    fuse: str,
    *,
    max_depth: int,
    own: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> S:
    """Read the spec off the shapes of an original state dict.

    Args:
        prefix: of the backbone's keys.
        project, fuse: keys of the weights that make maps of tokens, ``{}`` for the number of the feature; and of the
            first of those that bring maps to one width.
        own: fields of the spec that the family alone reads.
        max_depth, settings: what shapes cannot tell, by the names of the family's settings.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    projections = [project.format(index) for index in range(NUM_FEATURES)]
    problems = find_misshapen(shapes, dict.fromkeys((*projections, fuse), 4), {})
    try:
        backbone = dinov2.recognise_spec(take_backbone(shapes, prefix), **settings)
    except CheckpointError as error:
        problems = [*(prefix + problem for problem in error.problems), *problems]
        if not problems:
            raise
    blocks = settings.get("out_indices", ())
    if blocks and len(blocks) != NUM_FEATURES:
        headline = f"out_indices {write_value(blocks)}: the depth head sees {NUM_FEATURES} blocks, not {len(blocks)}."
        raise CheckpointError(headline, hint="Give --out-indices as it was in training.")
    if problems:
        raise CheckpointError("This cannot be recognised as a DINOv2 with a depth head.", problems, WHOLE)
    if backbone.num_register_tokens:
        key = f"{prefix}register_tokens"
        headline = "A depth head on a backbone with registers is not converted: transformers hands them to the head."
        raise CheckpointError(headline, [f"{key} {tuple(shapes[key])}"], "Use this model in the library that wrote it.")
    of_backbone = {name: value for name, value in vars(backbone).items() if not name.startswith("interpolate_")}
    return spec_class(
        **{**of_backbone, "reshape_hidden_states": False, **own},
        neck_widths=tuple(shapes[key][0] for key in projections),
        fusion_width=shapes[fuse][0],
        max_depth=max_depth,
    )


def list_open(shapes: Shapes, prefix: str, settings: Container[str]) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None.

    Args:
        prefix: of the backbone's keys.
        settings: names of those that the family has.
    """
    backbone = take_backbone(shapes, prefix)
    usual = {name: value for name, value in dinov2.list_open(backbone).items() if name in settings}
    depth = len({key.split(".")[1] for key in backbone if key.startswith("blocks.")})
    return {**usual, "out_indices": OUT_INDICES.get(depth), "max_depth": None}
