"""From an original state dict to transformers' on-disk layout, and back."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conversion import key_map
from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.family import Family, Spec, families, load_family
from conversion.key_map import StateDict
from conversion.variants import VARIANTS, Variant, find_variant

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HEAD_PREFIX = "linear_head."
"""Where the tensors of a separate linear head file go in the one state dict that is converted."""


@dataclass(frozen=True)
class Conversion:
    """A converted model, not yet written.

    Attributes:
        variant: name of the official variant, or ``<family>_custom`` for another model of the family.
        family: name of the family.
        spec: what the original is made of.
        config: transformers config.
        architecture: name of the transformers class.
        state_dict: on-disk layout; its tensors are those of ``source``, or views of them.
        preprocessor: content of ``preprocessor_config.json``.
        source: the original state dict that was converted, dropped keys left out, linear head and baked position
            embeddings put in.
        dropped: original key to the reason why it was left out.
        baked: image size that the position embeddings were resampled for, None if they are the checkpoint's own.
        notes: what was assumed, for the artifact's card.
    """

    variant: str
    family: str
    spec: Any
    config: "PretrainedConfig"
    architecture: str
    state_dict: Mapping[str, Tensor]
    preprocessor: Mapping[str, object]
    source: Mapping[str, Tensor]
    dropped: Mapping[str, str]
    baked: int | None = None
    notes: tuple[str, ...] = ()


def convert(
    state_dict: StateDict,
    variant: str | None = None,
    *,
    linear_head: StateDict | None = None,
    num_attention_heads: int | None = None,
    image_size: int | None = None,
) -> Conversion:
    """Convert an original state dict. Pure: the input is left alone, no tensor is copied.

    Args:
        state_dict: as :func:`conversion.load_checkpoint` gives it.
        variant: name of the official variant it must be; recognised from keys and shapes if not given.
        linear_head: ``weight (num_classes, 2D)`` and ``bias (num_classes)`` of a ``_1layer`` classifier.
        num_attention_heads: what shapes cannot tell; the variant's, or width / 64, unless given.
        image_size: bake position embeddings for square images of this side, in pixels.

    Raises:
        VariantError: the variant is unknown, or these are the weights of another one.
        CheckpointError: no family recognises the keys.
        KeyMapError: keys or shapes do not add up, or values are NaN or Inf; all problems at once.
    """
    row = find_variant(variant) if variant is not None else None
    _demand_tensors(state_dict, linear_head or {})
    merged = merge_linear_head(state_dict, linear_head)
    shapes = {key: tuple(tensor.shape) for key, tensor in merged.items()}
    family = load_family(row.family) if row else recognise_family(shapes)
    kept, dropped = key_map.drop(merged, family.dropped)
    shapes = {key: shapes[key] for key in kept}
    spec = _demand_variant(family, row, shapes) if row else family.recognise_spec(shapes, num_attention_heads)
    if row and num_attention_heads not in (None, spec.num_heads):
        raise VariantError(f"{row.name} has {spec.num_heads} attention heads, not {num_attention_heads}.")
    name = row.name if row else identify_variant(family, spec)
    key_map.account(kept, family.original_shapes(spec), subject=name)
    notes = []
    if name not in VARIANTS and num_attention_heads is None:
        notes.append(f"{spec.num_heads} attention heads assumed: width / 64, as in the official models")
        warnings.warn(f"{name}: {notes[-1]}; give num_attention_heads if it has another number.", stacklevel=2)
    if image_size is not None:
        kept, spec = family.bake_image_size(kept, spec, image_size)
    config = family.build_config(spec)
    # transformers 5 loads in the dtype that the config names: the widest there is, so that no tensor is rounded
    config.dtype = reduce(torch.promote_types, (tensor.dtype for tensor in kept.values()))
    return Conversion(
        variant=name,
        family=family.name,
        spec=spec,
        config=config,
        architecture=spec.hf_class,
        state_dict=key_map.convert(kept, key_map.expand(family.select_key_map(spec), spec.depth)),
        preprocessor=family.build_image_processor(image_size or family.crop_size // spec.patch_size * spec.patch_size),
        source=kept,
        dropped=dropped,
        baked=image_size,
        notes=tuple(notes),
    )


def restore(state_dict: StateDict, config: "PretrainedConfig") -> dict[str, Tensor]:
    """The inverse of :func:`convert`: the original state dict, bit for bit, what was dropped excepted.

    A classifier's head comes back as ``linear_head.weight`` and ``linear_head.bias``; of a model with a baked image
    size, ``pos_embed`` comes back baked.

    Args:
        state_dict: on-disk layout.
        config: its transformers config.

    Raises:
        CheckpointError: no family produces configs of this type.
        KeyMapError: the keys are not those of a converted model with this config.
    """
    family = next((family for family in families() if config.model_type in family.model_types), None)
    if family is None:
        known = ", ".join(name for family in families() for name in family.model_types)
        raise CheckpointError(f"A model of type {config.model_type!r} cannot be restored.", hint=f"Known: {known}.")
    spec = family.read_config(config)
    return key_map.restore(state_dict, key_map.expand(family.select_key_map(spec), spec.depth))


def recognise_family(shapes: key_map.Shapes) -> Family[Any]:
    """The family whose keys these are.

    Raises:
        CheckpointError: none; the keys found are named.
    """
    found = [family for family in families() if family.matches(shapes)]
    if len(found) != 1:
        names = ", ".join(family.name for family in found or families())
        raise CheckpointError(
            f"{len(shapes)} keys that belong to {'several families' if found else 'no known family'} ({names}).",
            [f"{key} {shape}" for key, shape in shapes.items()],
            hint="Give the original's own state dict, or name the variant.",
        )
    return found[0]


def identify_variant(family: Family[Any], spec: Spec) -> str:
    """Name of the official variant with this spec, or ``<family>_custom``."""
    rows = (row for row in VARIANTS.values() if row.family == family.name)
    return next((row.name for row in rows if family.spec_of(row) == spec), f"{family.name}_custom")


def _demand_tensors(*state_dicts: StateDict) -> None:
    foreign = [
        f"{key!r}: a {type(value).__name__}"
        for state_dict in state_dicts
        for key, value in state_dict.items()
        if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if foreign:
        raise KeyMapError("A state dict holds tensors under names, and nothing else.", foreign)


def _demand_variant(family: Family[Any], row: Variant, shapes: key_map.Shapes) -> Spec:
    """The variant's spec, provided that these shapes are not those of another model altogether."""
    spec: Spec = family.spec_of(row)
    if shapes == family.original_shapes(spec):
        return spec
    try:
        found = family.recognise_spec(shapes, 1)  # any number of heads has the same shapes
        is_complete = shapes == family.original_shapes(found)
    except (CheckpointError, KeyMapError):
        is_complete = False
    if not is_complete:
        return spec  # the account that follows lists what is wrong with it
    hint = ""
    if row.task == "image-classification" and not found.num_classes:
        hint = f"{row.name} needs its linear head file beside the backbone: give linear_head (--linear-head)."
    elif found.num_classes and row.task == "backbone":
        hint = "A linear head was given with it: leave it out, or ask for the _1layer variant."
    others = (other for other in VARIANTS.values() if other.family == family.name)
    name = next((other.name for other in others if family.original_shapes(family.spec_of(other)) == shapes), None)
    sizes = ", ".join(f"{key} {value}" for key, value in asdict(found).items() if key != "num_heads")
    described = name or f"another {family.name} model ({sizes})"
    raise VariantError(f"These are the weights of {described}; {row.name} was asked for.", hint=hint)


def merge_linear_head(state_dict: StateDict, linear_head: StateDict | None) -> dict[str, Tensor]:
    """One state dict of backbone and linear head, the head's keys under their prefix.

    Raises:
        KeyMapError: a tensor of the head is in the backbone's file as well.
    """
    prefixed = {HEAD_PREFIX + key.removeprefix(HEAD_PREFIX): tensor for key, tensor in (linear_head or {}).items()}
    twice = [name for name in prefixed if name in state_dict]
    if twice:
        raise KeyMapError("Tensors that are in the checkpoint and in the linear head's file as well.", twice)
    return {**state_dict, **prefixed}
