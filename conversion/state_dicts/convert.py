"""From an original state dict to transformers' on-disk layout."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from conversion.errors import CheckpointError, ConversionWarning, KeyMapError, VariantError
from conversion.families.base import Spec, families, list_differences, load_family, tell_settings
from conversion.families.image_sizes import check_image_size
from conversion.families.labels import choose_labels
from conversion.families.told import Origin, Told, find_origins, write_value
from conversion.families.variants import Variant, find_variant
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict, shapes_of
from conversion.mapping.tensors import describe_unusable
from conversion.state_dicts.derived import check_derived, list_damage
from conversion.state_dicts.filled import describe_filled, expand_filled, fill_in
from conversion.state_dicts.linear_head import complete_linear_head, merge_linear_head
from conversion.state_dicts.other_kinds import refuse_other_kinds
from conversion.state_dicts.recognise import Recognised, find_official, merge_told, recognise, recognise_shapes, rows_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NAME_NONE = "Name no variant to convert it as what it is."


@dataclass(frozen=True)
class Conversion:
    """A converted model, not yet written.

    Attributes:
        variant: name of the official variant, or ``<family>_custom`` for another model of the family.
        family: name of the family.
        spec: what the original is made of.
        config: transformers config.
        architecture: name of the transformers class.
        labels: a name for each class, in the order of the logits.
        state_dict: on-disk layout; its tensors are those of ``source``, or views of them, and those filled in.
        preprocessor: content of ``preprocessor_config.json``; empty where images are not RGB, and there is none.
        input_size: side in pixels of the images that it makes.
        source: the original state dict that was converted, dropped keys left out, linear head and baked position
            embeddings put in.
        dropped: original key to the reason why it was left out.
        left_out: those of the dropped tensors that the original model needs to be whole again.
        baked: image size that the position embeddings were resampled for, None if they are the checkpoint's own.
        notes: what a user of the model must know, for the artifact's card.
        told: what tensors cannot tell, and on whose word it is taken.
        recomputed: keys of dropped tensors that were damaged, and are computed again from the spec.
        origins: role (``checkpoint``, ``linear_head``) to the files that it was read from, as it is; none where one of
            them was made, or changed, in memory.
        filled_in: original keys that the source lacks and the converted model always has: zeros or ones.
    """

    variant: str
    family: str
    spec: Any
    config: "PretrainedConfig"
    architecture: str
    labels: tuple[str, ...]
    state_dict: Mapping[str, Tensor]
    preprocessor: Mapping[str, object]
    input_size: int
    source: Mapping[str, Tensor]
    dropped: Mapping[str, str]
    left_out: Mapping[str, Tensor] = field(default_factory=dict)
    baked: int | None = None
    notes: tuple[str, ...] = ()
    told: Mapping[str, Told] = field(default_factory=dict)
    recomputed: tuple[str, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    filled_in: tuple[str, ...] = ()


def convert(
    state_dict: StateDict,
    variant: str | None = None,
    *,
    linear_head: StateDict | None = None,
    linear_head_entry: str | None = None,
    image_size: int | None = None,
    labels: Iterable[str] | None = None,
    **settings: Any,
) -> Conversion:
    """Convert an original state dict. Pure: the input is left alone, no tensor is copied.

    Args:
        state_dict: as :func:`conversion.load_checkpoint` gives it.
        variant: name of the official variant it must be; recognised from keys and shapes if not given.
        linear_head: ``weight (num_classes, 2D)`` and ``bias (num_classes)`` of a ``_1layer`` classifier; or the
            heads of DINOv2's linear evaluation, as they lie in its file.
        linear_head_entry: of these, the name of the one to take.
        image_size: bake position embeddings for square images of this side, in pixels.
        labels: class names, in the order of the logits; ImageNet's, of a classifier with its 1000 classes, unless
            given.
        settings: what tensors cannot tell, by the family's names for it, as ``num_attention_heads`` or ``image_mean``.
            What is not given is told by a file beside the checkpoint (:func:`conversion.load_checkpoint` reads it), by
            the variant that is named, or by an official model of these very shapes; else it is refused.

    Raises:
        VariantError: the variant is unknown, these are the weights of another one, or it has no use for something
            that was given.
        CheckpointError: no family recognises the keys, or nobody told what shapes cannot tell.
        KeyMapError: keys or shapes do not add up, or values are NaN or Inf; all problems at once.
    """
    row = find_variant(variant) if variant is not None else None
    _demand_tensors(state_dict, linear_head or {})
    given = merge_linear_head(state_dict, linear_head, linear_head_entry)
    merged, widened = complete_linear_head(given, settings, variant)
    named = _demand_variant(row, merged, settings) if row else None
    family, spec = (named.family, named.spec) if named else recognise_shapes(merged)
    if linear_head is not None and not any("linear_head" in other.files for other in rows_of(family)):
        headline = f"A {family.name} model has no linear head file of its own; one was given."
        raise VariantError(headline, hint="Leave it out.")
    if image_size is not None:
        check_image_size(spec, image_size)
    kept, dropped = key_map.drop(merged, family.dropped)
    original, like = family.original_tensors(spec), row or find_official(family, spec)
    subject = like.name if like else f"{family.name}_custom"
    key_map.account(kept, key_map.drop(original, family.dropped)[0], subject=subject)
    damaged = check_derived(family.derive(spec), {key: merged[key] for key in dropped}, subject)
    found = named or recognise(given, **settings)
    name, spec, told = row.name if row else found.name, found.spec, found.told
    if image_size is not None:
        check_image_size(spec, image_size)  # again: shapes alone do not say whether resampling was told
    for note in list_damage(damaged):
        warnings.warn(f"{name}: {note}.", ConversionWarning, stacklevel=2)
    notes = () if row else (*_note_lookalikes(found), *_note_others(found, like), *family.note_settings(spec, told))
    if image_size is not None:
        kept, spec = family.bake_image_size(kept, spec, image_size)
    told_labels = getattr(merged, "labels", None)
    if labels is None and told_labels is not None and len(told_labels) == spec.num_classes:
        labels = told_labels
    elif labels is None and told_labels is not None:
        count = spec.num_classes or "none"
        notes += (f"the file names {len(told_labels)} classes, the model has {count}: its names are left out",)
    if labels is not None and not spec.num_classes:
        raise VariantError(f"{name} has no classes; class names were given for it.", hint="Leave them out.")
    chosen = choose_labels(spec.task, spec.num_classes, labels)
    config = family.build_config(spec, chosen)
    # transformers 5 loads in the dtype that the config names: the widest, so that no tensor is rounded
    floating = [tensor.dtype for tensor in kept.values() if tensor.is_floating_point()]
    config.dtype = reduce(torch.promote_types, floating)
    input_size = image_size or family.images.choose_input_size(spec)
    return Conversion(
        variant=name,
        family=family.name,
        spec=spec,
        config=config,
        architecture=spec.hf_class,
        labels=chosen,
        state_dict=key_map.convert(kept, family.expand_key_map(spec)) | fill_in(family, spec, kept),
        preprocessor=family.images.build_image_processor(spec, input_size),
        input_size=input_size,
        source=kept,
        dropped=dropped,
        left_out=_select_left_out({key: merged[key] for key in dropped}, original, family.derive(spec)),
        baked=image_size if spec.any_size else None,
        notes=(*notes, *widened, *describe_filled(family, spec), *list_damage(damaged)),
        told=told,
        recomputed=tuple(damaged),
        origins=find_origins(checkpoint=state_dict, linear_head=linear_head),
        filled_in=tuple(expand_filled(family, spec)),
    )


def _note_lookalikes(found: Recognised) -> Iterator[str]:
    if found.lookalikes:
        kinds = " and ".join((found.family.name, *found.lookalikes))
        yield f"the shapes of {kinds} models are the same: no tensor tells which one this is; its name says all of them"


def _note_others(found: Recognised, like: Variant | None) -> Iterator[str]:
    """Where somebody told a setting that the official model of these very shapes has otherwise."""
    if like is None:
        return
    own = tell_settings(found.family, found.family.spec_of(like))
    names = own.keys() - found.family.beside_config  # what images are made like concerns the image processor alone
    given = {name: each for name, each in found.told.items() if name in names and each.value != own[name]}
    if given:
        said = ", ".join(f"{name} {write_value(own[name])}, not {write_value(given[name].value)}" for name in given)
        yield f"{like.name}, the official model of these shapes, has {said}"


def _demand_tensors(*state_dicts: StateDict) -> None:
    foreign = [
        f"{key!r}: a {type(value).__name__}"
        for state_dict in state_dicts
        for key, value in state_dict.items()
        if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if foreign:
        hint = "Read the file by conversion.load_checkpoint: that takes the state dict out of it."
        raise KeyMapError("A state dict holds tensors under names, and nothing else.", foreign, hint)


def _select_left_out(dropped: StateDict, original: StateDict, derived: StateDict) -> dict[str, Tensor]:
    """Those of the dropped tensors that the original has in that shape, and that do not follow from its spec."""
    return {
        key: tensor
        for key, tensor in dropped.items()
        if key in original.keys() - derived.keys()
        and tensor.shape == original[key].shape
        and not describe_unusable({key: tensor})
    }


def _demand_variant(row: Variant, state_dict: StateDict, settings: Mapping[str, Any]) -> Recognised:
    """The variant that was named, provided that this is not another model altogether."""
    refuse_other_kinds(shapes_of(state_dict))
    family = load_family(row.family)
    spec: Spec = family.spec_of(row)
    given = merge_told(family, getattr(state_dict, "told", {}), settings)
    shapes = shapes_of(key_map.drop(state_dict, family.dropped)[0])
    own = {name: getattr(spec, family.settings[name].field) for name in given if family.settings[name].field}
    contradictions = [
        f"{name} {write_value(value)}, not {write_value(given[name].value)} ({given[name].by})"
        for name, value in own.items()
        if value != given[name].value
    ]
    if contradictions:
        raise VariantError(f"{row.name} has {', '.join(contradictions)}.", hint=NAME_NONE)
    fields = {name: setting.field for name, setting in family.settings.items() if setting.field}
    by = f"{row.name}, which was named"
    told = {name: Told(getattr(spec, field), by, is_given=False) for name, field in fields.items()}
    asked = Recognised(family, spec, {name: each for name, each in told.items() if each.value not in (None, ())}, ())
    if shapes == family.converted_shapes(spec):
        return asked
    try:
        found = family.recognise_spec_open(shapes)
        is_complete = shapes == family.converted_shapes(found)
    except (CheckpointError, KeyMapError):
        is_complete = False
    if not is_complete:
        _refuse_another_family(row, state_dict)
        return asked  # the account that follows lists what is wrong with it
    others = rows_of(family)
    name = next((other.name for other in others if family.converted_shapes(family.spec_of(other)) == shapes), None)
    untold = {family.settings[name].field for name in family.list_open(shapes)}
    differing = ", ".join(text for field, text in list_differences(found, spec).items() if field not in untold)
    hint = NAME_NONE
    if "linear_head" in row.files and not found.num_classes:
        hint = f"{row.name} needs its linear head file beside the backbone: give linear_head (--linear-head)."
    described = name or f"another {family.name} model ({differing})"
    raise VariantError(f"These are the weights of {described}; {row.name} was asked for.", hint=hint)


def _refuse_another_family(row: Variant, state_dict: StateDict) -> None:
    shapes = shapes_of(state_dict)
    if load_family(row.family).matches(shapes):
        return
    other = next((family for family in families() if family.matches(shapes)), None)
    if other is None:
        return
    try:
        like = find_official(*recognise_shapes(state_dict))
    except (CheckpointError, KeyMapError):
        like = None
    described = like.name if like else f"a {other.name} model"
    raise VariantError(f"These are the weights of {described}; {row.name} was asked for.", hint=NAME_NONE)
