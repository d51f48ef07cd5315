"""The shapes of a DINOv2 model's parameters in the order of its modules, told by its training or by its likeness."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from conversion.errors import CheckpointError
from conversion.families.base import Family, load_family
from conversion.families.told import Told
from conversion.families.variants import find_variant
from conversion.intake.settings_file import Beside
from conversion.intake.training_config import find_architecture, find_training

# in a training's config
FFN_LAYERS = {"mlp": "mlp", "swiglufused": "swiglu", "swiglu": "swiglu"}  # the last two are one
DEFAULT_PATCH_SIZE, DEFAULT_IMAGE_SIZE = 16, 224

# switch of a training's config to the parameters that a model has only where it is on
SWITCHES = {
    "qkv_bias":   ("blocks.*.attn.qkv.bias",),
    "proj_bias":  ("blocks.*.attn.proj.bias",),
    "ffn_bias":   ("blocks.*.mlp.*.bias",),
    "layerscale": ("blocks.*.ls1.gamma", "blocks.*.ls2.gamma"),
}  # fmt: skip

POSITIONS = "pos_embed"

TELL_SHAPES = (
    "Put the config.yaml of the training run beside them, which DINOv2's training writes into its output folder; or "
    "name an official model of the same widths: --like dinov2_vits14."
)
OTHER_CONFIG = "Put the config.yaml of the run that wrote these files in its place."
OTHER_MODEL = "Name an official model of the same width and depth: --like NAME (vision-parity variants lists them)."


@dataclass(frozen=True)
class Layout:
    """The shapes of a model's parameters.

    Attributes:
        shapes: name to shape, in the order of the modules.
        by: who tells them.
        is_likeness: the image size may be another than the official model's.
    """

    shapes: Mapping[str, tuple[int, ...]]
    by: str
    is_likeness: bool = False

    def fit(self, counts: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The shapes, held against the counts of parameters by name, where files tell them.

        Of a likeness, the number of positions is taken from their count.

        Raises:
            CheckpointError: a parameter is missing, unexpected, or has another count.
        """
        shapes = dict(self.shapes)
        if not counts:
            return shapes
        if self.is_likeness and POSITIONS in counts:
            width = shapes[POSITIONS][-1]
            shapes[POSITIONS] = (1, counts[POSITIONS] // width, width)
        problems = [f"missing: {name} {shape}" for name, shape in shapes.items() if name not in counts]
        problems += [f"unexpected: {name}, {count:,} elements" for name, count in counts.items() if name not in shapes]
        problems += [
            f"{name}: {counts[name]:,} elements, {shape} by {self.by}"
            for name, shape in shapes.items()
            if name in counts and counts[name] != math.prod(shape)
        ]
        if problems:
            headline = f"flattened parameters of another model than {self.by} tells."
            raise CheckpointError(headline, problems, OTHER_MODEL if self.is_likeness else OTHER_CONFIG)
        return shapes


def find_layout(folder: Path, like: str | None) -> Layout:
    """The shapes of a model's parameters: of the official model that it is like, or as its training's config tells.

    Args:
        folder: that its files lie in.
        like: name of an official DINOv2 model.

    Raises:
        CheckpointError: nobody tells them, or the config tells of a model that is not known.
        VariantError: there is no official model of this name.
    """
    if like is not None:
        return describe_likeness(like)
    training = find_training(folder)
    if training is None:
        raise CheckpointError("flattened parameters, whose shapes their files do not tell.", hint=TELL_SHAPES)
    return describe_training(*training)


def describe_likeness(name: str) -> Layout:
    """The shapes of an official DINOv2 backbone; those of another image size may differ in their positions."""
    row = find_variant(name)
    if row.family != "dinov2":
        hint = "Give the name of an official DINOv2 model, as --like dinov2_vits14."
        raise CheckpointError(f"--like {name}: the order of its parameters in FSDP is not known.", hint=hint)
    family: Family[Any] = load_family(row.family)
    spec = replace(family.spec_of(row), num_classes=0)
    return Layout(family.original_shapes(spec), f"--like {name}", is_likeness=True)


def tell_likeness(name: str) -> Beside:
    """What the name of an official model tells that no tensor tells: the number of heads."""
    row, by = find_variant(name), f"--like {name}"
    heads = row.spec["num_heads"]
    return Beside(Path(name), {"num_attention_heads": Told(heads, by)})


def describe_training(path: Path, config: Mapping[str, Any]) -> Layout:
    """The shapes that a DINOv2 training's configuration tells.

    Raises:
        CheckpointError: it has an architecture, a feed-forward, or sizes, that are not known.
    """
    student = config["student"]
    embed_dim, depth, num_heads = find_architecture(path, student)
    crops = config.get("crops")
    sizes = {
        "patch_size": student.get("patch_size", DEFAULT_PATCH_SIZE),
        "num_register_tokens": student.get("num_register_tokens", 0),
        "image_size": crops.get("global_crops_size", DEFAULT_IMAGE_SIZE) if isinstance(crops, dict) else None,
    }
    problems = [f"{name}: {value!r}" for name, value in sizes.items() if type(value) is not int or value < 0]
    ffn_layer = str(student.get("ffn_layer", "mlp"))
    problems += [f"student.ffn_layer: {ffn_layer!r}"] * (ffn_layer not in FFN_LAYERS)
    if problems or not 0 < sizes["patch_size"] <= sizes["image_size"] <= 10_000:
        headline = f"{path}: these values tell no shapes of parameters."
        raise CheckpointError(headline, problems or [f"{name}: {value}" for name, value in sizes.items()], OTHER_CONFIG)
    family: Family[Any] = load_family("dinov2")
    shapes = family.original_shapes(
        family.build_spec(
            embed_dim=embed_dim, depth=depth, num_heads=num_heads, ffn=FFN_LAYERS[ffn_layer], num_classes=0, **sizes
        )
    )
    off = [pattern for switch, patterns in SWITCHES.items() if student.get(switch, True) in (False, None, 0)
           for pattern in patterns]  # fmt: skip
    kept = {name: shape for name, shape in shapes.items() if not any(fnmatchcase(name, each) for each in off)}
    return Layout(kept, f"{path.name} of the training run")
