"""What every family says of itself: the ``FAMILY`` of its package or module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError, KeyMapError
from conversion.families import vit
from conversion.families.external import find_clone, refuse_clone
from conversion.families.heads import SeparateHead
from conversion.families.image_sizes import refuse_other_size
from conversion.families.images import note_channels
from conversion.families.preprocessing import ResizeAndCrop
from conversion.families.settings import FAMILY, TIMM, Setting, find_module, list_families
from conversion.families.shapes import build_on_meta
from conversion.families.target import transformers_major
from conversion.families.timm_code import BUNDLED_INSTEAD, Description, load_weights, translate_nothing
from conversion.families.training import Training
from conversion.families.variants import Variant
from conversion.families.vit import Spec as Spec
from conversion.mapping.key_map import KeyMap, Shapes, StateDict, drop, expand, find_reason, shapes_of
from conversion.parity.deviations import Deviation, combine
from conversion.parity.points import Stage

if TYPE_CHECKING:
    from transformers import PretrainedConfig


S = TypeVar("S", bound=Spec)


def tell_settings(family: "Family[Any]", spec: Spec, *names: str) -> dict[str, Any]:
    """Collect what tensors cannot tell of a model of this spec, as arguments of ``convert``.

    Settings that nobody has told are left out.

    Args:
        names: the settings to collect; all of them unless given.
    """
    fields = {name: setting.field for name, setting in family.settings.items() if setting.field}
    told = {name: getattr(spec, field) for name, field in fields.items() if name in (names or fields)}
    if FAMILY in family.settings and not names:
        told[FAMILY] = family.name
    return {name: value for name, value in told.items() if value not in (None, ())}


def list_differences(found: Spec, wanted: Spec) -> dict[str, str]:
    """List how two specs of one family differ: field to text."""
    return {
        field: f"{field} {value}, not {vars(wanted)[field]}"
        for field, value in vars(found).items()
        if value != vars(wanted)[field]
    }


@dataclass(frozen=True, kw_only=True)
class Family(Generic[S]):
    """Everything the converter needs to know about one model family.

    Attributes:
        name: of its module.
        model_types: the ``model_type`` of the transformers configs it produces.
        matches: whether an original state dict with these shapes is of this family.
        build_spec: the spec from keyword arguments.
        recognise_spec: the spec from shapes and, as keyword arguments, any of the settings. It stays open where a
            setting is not given: :func:`conversion.state_dicts.recognise.recognise` sees to it that it is.
        build_config: the transformers config from a spec and its class names, of which a backbone has none.
        read_config: the spec from a transformers config.
        select_key_map: the key map of a model of this spec, for a major version of transformers.
        build_original: the original model of this spec.
        list_stages: the capture points for a spec, stage by stage; ``masked`` for a masked input.
        settings: what tensors cannot tell, by name: what :attr:`recognise_spec` takes beside shapes. A family says them
            itself, since what original and converted model assume alike is proven by nothing.
        constants: settings of the family that it is built on, each with the one value that its own code has.
        list_open: the settings that these shapes leave open, each with the value that most such models have, or None.
        images: how images become the model's input.

        beside_config: fields of the spec that transformers' config has no place for.
        find_lookalikes: other kinds of models that have the same shapes, by name, from a spec and the shapes of what is
            dropped.
        yields_to: the family that is taken where a state dict may be of both, and nobody tells which.
        note_settings: what a user of the converted model must know of settings that nobody gave, from a spec and who
            told what.

        dropped: original keys that are not converted, shell-style pattern to reason.
        unplaced: likewise, keys of the key map that transformers has no place for, or not for all of their parts.
        read_values: a spec completed by what the values of the original's tensors tell, beyond their shapes.
        fallback: of a converted model with nothing kept beside it, tensors of an original that computes the same.
        derive: tensors of the original state dict that follow from the spec alone; they are not converted.
        bake_image_size: tensors that change, and the new spec, for another native image size.
        complete: a spec with all that transformers' model always has, though an original may lack it.
        filled_with_ones: of what is filled in there, the original keys whose tensors are multiplied with, shell-style;
            all others are added, and filled with zeros.
        returned: settings that say what transformers' model returns; the original is the same whatever they are.

        attention_in: of a config with another in it, the field of the one whose model has the attention: transformers'
            class may refuse to be told one for itself.
        list_usage: imports and lines of Python that make what the original returns, where transformers returns
            something else; of a ``photo``, transformers' ``model`` and its ``processor``.

        head: one that its models have in a file of its own, if they are published so.
        training: what the authors' training writes.
        exact: (device type, dtype, attention) where bit for bit equality was reached before, on some processor; on
            which kinds is on record in ``fixtures/verdicts.json``.
        ledger: every known deviation of the target library that concerns this family.

        build_external: the original model by the authors' own code, from a clone of their repository.
        hub_repository: what torch.hub knows that repository by; empty if it does not.
        translate: a state dict as another library writes it, to the original's keys, and what was done, in a line; any
            other state dict as it is, and nothing. Optionally with what timm's ``config.json`` beside it tells.
        foreign: whose code writes what is translated.
        build_timm: the same model by timm's own code, from what its ``config.json`` told, if it did, a spec, and the
            shapes that timm wrote; None where timm has no such models.
    """

    name: str
    model_types: tuple[str, ...]
    matches: Callable[[Shapes], bool]
    build_spec: Callable[..., S]
    recognise_spec: Callable[..., S]
    build_config: Callable[[S, tuple[str, ...]], "PretrainedConfig"]
    read_config: Callable[["PretrainedConfig"], S]
    select_key_map: Callable[[S, int], KeyMap]
    build_original: Callable[[S], nn.Module]
    list_stages: Callable[..., list[Stage]]
    settings: Mapping[str, Setting]
    list_open: Callable[[Shapes], Mapping[str, object]]
    images: ResizeAndCrop

    constants: Mapping[str, object] = field(default_factory=dict)
    beside_config: frozenset[str] = vit.BESIDE_CONFIG
    find_lookalikes: Callable[[S, Shapes], tuple[str, ...]] = lambda _spec, _dropped: ()
    yields_to: str = ""
    note_settings: Callable[..., tuple[str, ...]] = lambda spec, _told: note_channels(spec.num_channels)

    dropped: Mapping[str, str] = field(default_factory=dict)
    unplaced: Mapping[str, str] = field(default_factory=dict)
    read_values: Callable[[StateDict, S], S] = lambda _tensors, spec: spec
    fallback: Callable[[S], dict[str, Tensor]] = lambda _spec: {}
    derive: Callable[[S], dict[str, Tensor]] = lambda _spec: {}
    bake_image_size: Callable[[Mapping[str, Tensor], S, int], tuple[dict[str, Tensor], S]] = refuse_other_size
    complete: Callable[[S], S] = lambda spec: spec
    filled_with_ones: tuple[str, ...] = ()
    returned: frozenset[str] = frozenset()

    attention_in: str = ""
    list_usage: Callable[[S], tuple[tuple[str, ...], tuple[str, ...]]] = lambda _spec: ((), ())

    head: SeparateHead | None = None
    training: Training = field(default_factory=Training)
    exact: frozenset[tuple[str, str, str]] = frozenset()
    ledger: tuple[Deviation, ...] = ()

    build_external: Callable[[S, Path], nn.Module] = refuse_clone
    hub_repository: str = ""
    translate: Callable[..., tuple[dict[str, Tensor], str]] = translate_nothing
    foreign: str = TIMM
    build_timm: Callable[[Description | None, S, Shapes], nn.Module] | None = None

    def find_deviation(
        self, spec: S, shape: tuple[int, ...], dtype: str = "float32", attention: str = "sdpa"
    ) -> Deviation | None:
        """Find the ledger's entry, or several combined, that applies to a spec at an input's shape.

        Args:
            shape: ``(B, channels, height, width)``.
            dtype, attention: by name.
        """
        return combine(*(entry for entry in self.ledger if entry.applies(spec, shape, dtype, attention)))

    def find_image_deviation(self, spec: S, size: tuple[int, int], input_size: int) -> Deviation | None:
        """Find the ledger's entry, or several combined, that applies to an image of this (width, height)."""
        return combine(*(entry for entry in self.ledger if entry.applies_to_image(spec, size, input_size)))

    def expand_key_map(self, spec: S, major: int | None = None) -> dict[str, tuple[str, ...]]:
        """Map every original key that is converted to its target keys in the layout of a major version of transformers.

        Args:
            major: the installed one unless given.
        """
        return expand(self.select_key_map(spec, transformers_major() if major is None else major), spec.depth)

    def original_tensors(self, spec: S) -> dict[str, Tensor]:
        """Build the original state dict on the meta device, which takes no memory."""
        return dict(build_on_meta(self.build_original, spec))

    def original_shapes(self, spec: S) -> dict[str, tuple[int, ...]]:
        """List the shapes of the original state dict, by key."""
        return shapes_of(self.original_tensors(spec))

    def converted_tensors(self, spec: S) -> dict[str, Tensor]:
        """Build, on the meta device, the part of the original state dict that is not dropped by name."""
        kept, _ = drop(self.original_tensors(spec), self.dropped)
        return kept

    def converted_shapes(self, spec: S) -> dict[str, tuple[int, ...]]:
        """List the shapes of what is converted, by key."""
        return shapes_of(self.converted_tensors(spec))

    def explain_absence(self, key: str) -> str | None:
        """Say why an original key is not in a converted model, or not whole; None if it is."""
        return find_reason(key, {**self.dropped, **self.unplaced})

    def load_original(self, spec: S, state_dict: Mapping[str, Tensor], clone: Path | None = None) -> nn.Module:
        """Load the original model with these very tensors as its weights (not copied), in eval mode.

        Tensors that follow from the spec are filled in. Those that are dropped by name may be absent; they have no
        part in the model's outputs.

        Args:
            clone: of the authors' repository, whose code the model is to be of; ours unless given.

        Raises:
            KeyMapError: others are absent, or there are too many.
            CheckpointError: the clone has no code for it that runs.
        """
        with torch.device("meta"):
            model = self.build_original(spec) if clone is None else self.build_external(spec, clone)
        device = next(iter(state_dict.values())).device
        derived = {key: tensor.to(device) for key, tensor in self.derive(spec).items()}
        loaded = model.load_state_dict({**derived, **state_dict}, strict=False, assign=True)
        problems = [f"missing: {key}" for key in loaded.missing_keys if not find_reason(key, self.dropped)]
        problems += [f"unexpected: {key}" for key in loaded.unexpected_keys]
        if problems:
            raise KeyMapError(f"The original {self.name} model does not take these tensors.", problems)
        return model.eval().requires_grad_(False)

    def load_timm(self, spec: S, state_dict: Mapping[str, Tensor], description: Description | None = None) -> nn.Module:
        """Load timm's own model with these very tensors as its weights (not copied), in eval mode.

        Args:
            state_dict: as timm wrote it, not translated. Tensors that follow from the spec are left to timm.
            description: what the ``config.json`` beside it tells.

        Raises:
            CheckpointError: timm has no such model.
            KeyMapError: it takes other tensors than these.
        """
        if self.build_timm is None:
            raise CheckpointError(f"timm has no {self.name} models.", hint=BUNDLED_INSTEAD)
        with torch.device("meta"):
            model = self.build_timm(description, spec, shapes_of(state_dict))
        derived = self.derive(spec)
        kept = {key: tensor for key, tensor in state_dict.items() if key not in derived}
        return load_weights(model, kept, description)

    def find_clone(self, original: str) -> Path | None:
        """Find the clone that ``--original`` means, a path or ``"hub"``; None for ``"bundled"``.

        Raises:
            CheckpointError: there is none.
        """
        return find_clone(original, self.name, self.hub_repository)

    def recognise_spec_open(self, shapes: Shapes) -> S:
        """Read the spec from shapes alone; a setting that they leave open gets a neutral value."""
        neutral = {name: self.settings[name].neutral for name in self.list_open(shapes)}
        return self.recognise_spec(shapes, **{name: value for name, value in neutral.items() if value is not None})

    def read_spec(self, config: "PretrainedConfig", known: S) -> S:
        """Read the spec that a transformers config describes; fields that it lacks are those of a known spec."""
        found: Any = self.read_config(config)
        return cast("S", replace(found, **{name: getattr(known, name) for name in self.beside_config}))

    def spec_of(self, variant: Variant) -> S:
        """Build the spec of an official variant."""
        return self.build_spec(**variant.spec)

    def tell_attention(self, attention: str) -> str | dict[str, str]:
        """What ``from_pretrained`` takes to have this attention."""
        return {self.attention_in: attention} if self.attention_in else attention

    def choose_attention(self) -> str:
        """Choose the attention that is known to be exact in float32 on a CPU; sdpa where several or none is."""
        exact = {attention for device, dtype, attention in self.exact if (device, dtype) == ("cpu", "float32")}
        return exact.pop() if len(exact) == 1 else "sdpa"


@cache
def load_family(name: str) -> Family[Any]:
    """Import the family in the module ``name``."""
    family: Family[Any] = import_module(find_module(name)).FAMILY
    return family


def families() -> list[Family[Any]]:
    """List every family that has a row in the table of variants."""
    return [load_family(name) for name in list_families()]


def find_dropped(key: str) -> str | None:
    """Find why some family drops this key by name; None if none does."""
    return next((reason for family in families() if (reason := find_reason(key, family.dropped))), None)
