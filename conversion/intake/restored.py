"""A model in the layout of transformers already: its tensors, and the original state dict put back together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from conversion.errors import CheckpointError, ConversionError, concerning
from conversion.families.labels import name_classes
from conversion.families.told import Told
from conversion.intake.reading import open_files, take_model
from conversion.intake.sources import Source, find_source
from conversion.intake.told_by_folder import describe_others, read_told
from conversion.state_dicts.folder import CONFIG, read_config, read_left_out
from conversion.state_dicts.in_memory import name_as_in_files
from conversion.state_dicts.restore import find_family, restore_whole

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model in transformers' layout, as they lie in its folder; pickled ones without running code.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    with concerning(folder):
        source = find_source(folder)
        return name_as_in_files(take_model(source, open_files(source), None)[0])[0]


class Restored(NamedTuple):
    """The original state dict of a model in transformers' layout, and what its config tells of it.

    Attributes:
        did: what was done.
        labels: the class names that its config gives, in the order of the logits; None where it gives none.
        others: what its config says otherwise than the original has it, in words.
        gone: what of the original is lost, in words.
    """

    state_dict: dict[str, Tensor]
    told: Mapping[str, Told]
    did: str
    labels: tuple[str, ...] | None
    others: str
    gone: str


def restore_folder(folder: Path, source: Source) -> Restored:
    """Put the original state dict back together.

    Raises:
        CheckpointError: config or weights cannot be read, or are not of one model.
    """
    converted, named = name_as_in_files(take_model(source, open_files(source), None)[0])
    hint = f"Give a folder whose {CONFIG} and weights were saved together."
    try:
        _check_depth(folder, len(converted), hint)
        config = read_config(folder)
        family = find_family(config)
        spec = family.read_config(config)
        restored, gone = restore_whole(converted, config, read_left_out(folder))
    except ConversionError as error:
        raise CheckpointError(error.headline, error.problems, error.hint or hint) from None
    except Exception as error:  # transformers raises nearly everything on values that it does not expect
        problems = [f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"]
        raise CheckpointError(f"its {CONFIG} or a file beside it cannot be read.", problems, hint) from error
    did = f"{len(converted)} tensors in the layout of transformers put back into the original's"
    told = read_told(folder, family, spec)
    others = describe_others(family, spec, restored, told)
    said = "; ".join(filter(None, [did, named, gone, others]))
    return Restored(restored, told, said, _read_labels(config, spec.num_classes), others, gone)


def _read_labels(config: "PretrainedConfig", num_classes: int) -> tuple[str, ...] | None:
    """The class names in a config; None where there are none but the library's own."""
    found: dict[Any, str] = config.id2label or {}
    names = tuple(str(found.get(index, "")) for index in range(num_classes))
    return names if all(names) and names != name_classes(num_classes) else None


def _check_depth(folder: Path, num_tensors: int, hint: str) -> None:
    """Refuse a config of more blocks than there are tensors: transformers makes a list of them, however many."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    depth = config.get("num_hidden_layers", 0)
    if depth is None and "backbone_config" in config:
        return  # that tells it
    if not isinstance(depth, int) or depth > num_tensors:
        raise CheckpointError(f"its {CONFIG} tells of {depth!r} blocks; there are {num_tensors} tensors.", hint=hint)
