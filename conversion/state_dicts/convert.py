"""From an original state dict to transformers' on-disk layout."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from conversion.errors import ConversionWarning, KeyMapError, VariantError
from conversion.families.base import Family, Spec, tell_settings
from conversion.families.heads import HEADS
from conversion.families.image_sizes import check_image_size, check_input_size, check_sizes_agree
from conversion.families.labels import choose_labels, is_imagenet
from conversion.families.settings import FAMILY, INPUT_SIZE
from conversion.families.told import Origin, Told, find_origins, write_value
from conversion.families.variants import Variant, find_variant
from conversion.mapping import key_map
from conversion.mapping.key_map import StateDict
from conversion.mapping.tensors import describe_unusable
from conversion.state_dicts.derived import check_derived, list_damage
from conversion.state_dicts.filled import describe_filled, expand_filled, fill_in
from conversion.state_dicts.heads import merge_heads
from conversion.state_dicts.linear_head import complete_linear_head
from conversion.state_dicts.named import recognise_named
from conversion.state_dicts.recognise import Recognised, complete_spec, find_official, recognise_shapes, select_settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig


UNNAMED = "nothing tells the names of the 1000 classes: ImageNet's were taken; --labels gives others"
"""What is noted of a model whose class names nobody told."""


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
        dropped: original key to the reason why it, or a part of it, was left out.
        left_out: those of the dropped tensors that the original model needs to be whole again.
        baked: image size that was asked for, the native one, too, for which nothing is resampled; None if none was.
        notes: what a user of the model must know, for the artifact's card.
        told: what tensors cannot tell, and on whose word it is taken.
        recomputed: keys of dropped tensors that were damaged, and are computed again from the spec.
        origins: role (``checkpoint``, or that of a head) to the files that it was read from, as it is; none where one
            of them was made, or changed, in memory.
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
    depth_head: StateDict | None = None,
    image_size: int | None = None,
    labels: Iterable[str] | None = None,
    **settings: Any,
) -> Conversion:
    """Convert an original state dict. Pure: the input is left alone.

    No tensor is copied, but for a head that is filled up and position embeddings that are resampled.

    Args:
        state_dict: as :func:`conversion.load_checkpoint` gives it.
        variant: name of the official variant it must be; recognised from keys and shapes if not given.
        linear_head: ``weight (num_classes, 2D)`` and ``bias (num_classes)`` of a ``_1layer`` classifier; or the
            heads of DINOv2's linear evaluation, as they lie in its file.
        linear_head_entry: of these, the name of the one to take.
        depth_head: of DINOv2's authors, as it lies in its file.
        image_size: bake position embeddings for square images of this side, in pixels.
        labels: class names, in the order of the logits. If not given, those that the file names, else ImageNet's
            where there are 1000.
        settings: what tensors cannot tell, by the family's names for it, as ``num_attention_heads`` or ``image_mean``.
            What is not given is told by a file beside the checkpoint (:func:`conversion.load_checkpoint` reads it), by
            the variant that is named, or by an official model of these very shapes; else it is refused.

    Raises:
        VariantError: the variant is unknown, these are the weights of another one, or it has no use for something
            that was given.
        CheckpointError: no family recognises the keys, nobody told what shapes cannot tell, ``image_size`` cannot be
            baked, or ``input_size`` is another one.
        KeyMapError: keys or shapes do not add up, or values are NaN or Inf; all problems at once.
    """
    row = find_variant(variant) if variant is not None else None
    heads = {"linear_head": linear_head, "depth_head": depth_head}
    settings, input_size = _take_input_size(image_size, settings)
    _check_tensors(state_dict, *filter(None, heads.values()))
    given = merge_heads(state_dict, **heads, linear_head_entry=linear_head_entry)
    whole, widened = complete_linear_head(given, settings, variant)
    named = recognise_named(row, whole, settings) if row else None
    family, open_spec = (named.family, named.spec) if named else recognise_shapes(whole, settings.get(FAMILY))
    _refuse_options(family, open_spec, heads, image_size, input_size)
    like = row or find_official(family, open_spec)
    parts = _split_dropped(whole, family, open_spec, like)
    found = _forget_input_size(named or complete_spec(given, family, open_spec, settings), image_size)
    name, spec, kept = row.name if row else found.name, found.spec, parts.kept
    for note in list_damage(parts.damaged):
        warnings.warn(f"{name}: {note}.", ConversionWarning, stacklevel=2)
    notes = () if row else tuple(_note_recognised(found, like))
    if image_size is not None:
        kept, spec = family.bake_image_size(kept, spec, image_size)
    table = family.expand_key_map(spec)
    unplaced = {key: family.explain_absence(key) or "" for key in key_map.list_unplaced(table)}
    classes, unfit = _name_classes(name, spec, labels, getattr(whole, "labels", None), is_named=row is not None)
    input_size = image_size or family.images.choose_input_size(spec)
    check_input_size(spec, input_size)
    return Conversion(
        variant=name,
        family=family.name,
        spec=spec,
        config=_build_config(family, spec, classes, kept),
        architecture=spec.hf_class,
        labels=classes,
        state_dict=key_map.convert(kept, table) | fill_in(family, spec, kept),
        preprocessor=family.images.build_image_processor(spec, input_size),
        input_size=input_size,
        source=kept,
        dropped={**parts.dropped, **unplaced},
        left_out={**parts.left_out, **{key: kept[key] for key in unplaced}},
        baked=image_size if spec.any_size else None,
        notes=(*notes, *unfit, *widened, *describe_filled(family, spec), *list_damage(parts.damaged)),
        told=found.told,
        recomputed=tuple(parts.damaged),
        origins=find_origins(checkpoint=state_dict, **heads),
        filled_in=tuple(expand_filled(family, spec)),
    )


class Parts(NamedTuple):
    """The tensors of an original: those that are converted, and what becomes of the others.

    Attributes:
        dropped: key to the reason.
        left_out: those of the dropped ones that the original needs to be whole again.
        damaged: those that are to be computed again, to what was found.
    """

    kept: Mapping[str, Tensor]
    dropped: Mapping[str, str]
    left_out: Mapping[str, Tensor]
    damaged: Mapping[str, str]


def _split_dropped(state_dict: StateDict, family: Family[Any], spec: Spec, like: Variant | None) -> Parts:
    """Drop keys by name; check that all others are there, and that derived buffers have the values of the spec."""
    subject = like.name if like else f"{family.name}_custom"
    original, derived = family.original_tensors(spec), family.derive(spec)
    kept, reasons = key_map.drop(state_dict, family.dropped)
    key_map.check_complete(kept, key_map.drop(original, family.dropped)[0], subject=subject)
    dropped = {key: state_dict[key] for key in reasons}
    damaged = check_derived(derived, dropped, subject)
    return Parts(kept, reasons, _select_left_out(dropped, original, derived), damaged)


def _take_input_size(image_size: int | None, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Take out the size of images that was given, where the one that is baked tells it; another one is refused."""
    others = dict(settings)
    if image_size is None:
        return others, None
    input_size = others.pop(INPUT_SIZE, None)
    check_sizes_agree(image_size, input_size)
    return others, input_size


def _forget_input_size(found: Recognised, image_size: int | None) -> Recognised:
    """Forget the size of images that a file tells, where another one is baked."""
    if image_size is None or INPUT_SIZE not in found.told:
        return found
    told = {name: each for name, each in found.told.items() if name != INPUT_SIZE}
    spec: Any = found.spec  # not every family's has a field for it
    return replace(found, spec=spec if spec.input_size is None else replace(spec, input_size=None), told=told)


def _refuse_options(
    family: Family[Any],
    spec: Spec,
    heads: Mapping[str, StateDict | None],
    image_size: int | None,
    input_size: object,
) -> None:
    """Refuse what was given for a model that has no use for it."""
    for role, head in heads.items():
        if head is not None and (family.head is None or family.head.role != role):
            headline = f"A {family.name} model has no {HEADS[role].described} file of its own; one was given."
            raise VariantError(headline, hint="Leave it out.")
    select_settings(family, {INPUT_SIZE: input_size})
    if image_size is not None:
        check_image_size(spec, image_size)


def _name_classes(
    name: str, spec: Spec, labels: Iterable[str] | None, told: Sequence[str] | None, *, is_named: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names: those that were given, else a file's, else the usual ones; and what is to be noted of them.

    Args:
        is_named: as an official variant, whose classes are known.
    """
    notes: tuple[str, ...] = ()
    if labels is None and told is not None:
        fits = len(told) == spec.num_classes
        labels = told if fits else None
        count = spec.num_classes or "none"
        notes = () if fits else (f"the file names {len(told)} classes, the model has {count}: its names are left out",)
    if labels is not None and not spec.num_classes:
        raise VariantError(f"{name} has no classes; class names were given for it.", hint="Leave them out.")
    chosen = choose_labels(spec.task, spec.num_classes, labels)
    is_untold = labels is None and not is_named and is_imagenet(spec.task, spec.num_classes)
    return chosen, (*notes, UNNAMED) if is_untold else notes


def _build_config(family: Family[Any], spec: Spec, names: tuple[str, ...], tensors: StateDict) -> "PretrainedConfig":
    """The config; transformers 5 loads in the dtype that it names: the widest, so that no tensor is rounded."""
    config = family.build_config(spec, names)
    config.dtype = reduce(torch.promote_types, [each.dtype for each in tensors.values() if each.is_floating_point()])
    return config


def _note_recognised(found: Recognised, like: Variant | None) -> Iterator[str]:
    """What a user must know of a model whose variant was not named."""
    if found.lookalikes:
        kinds = " and ".join((found.family.name, *found.lookalikes))
        yield f"the shapes of {kinds} models are the same: no tensor tells which one this is; its name says all of them"
    yield from _note_others(found, like)
    yield from found.family.note_settings(found.spec, found.told)


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


def _check_tensors(*state_dicts: StateDict) -> None:
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
