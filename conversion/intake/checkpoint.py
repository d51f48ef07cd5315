"""Intake, whole: what people have, read as a clean original state dict, with a record of what was done to it."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conversion.errors import CheckpointError, ConversionError, ConversionWarning, concerning
from conversion.families.base import families, find_dropped
from conversion.families.timm_code import Description
from conversion.families.told import AUTHORS, TIMM, Told, ToldStateDict
from conversion.intake.beside import check_facts, find_beside, merge_beside
from conversion.intake.opening import Opened, open_file
from conversion.intake.prefixes import select_model
from conversion.intake.ranks import demand_whole, merge_ranks
from conversion.intake.sources import CONSOLIDATE, Source, find_source
from conversion.intake.steps import cast, demand_values, strip_prefixes, unchunk_blocks
from conversion.intake.told_by_folder import read_told
from conversion.intake.unwrapping import Unwrapped, demand_state_dict, unwrap
from conversion.intake.within import find_within
from conversion.state_dicts.folder import CONFIG, read_config, read_left_out
from conversion.state_dicts.restore import find_family, restore


@dataclass(frozen=True)
class Step:
    """What a step of intake did, in a line."""

    name: str
    did: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read.

    Attributes:
        path: as it was asked for.
        files: that were read.
        state_dict: original key to tensor, wrappers, prefixes and chunks undone; with what files beside it tell.
        steps: what was done to get there.
        folder: that ``from_pretrained`` reads it from, where it is in transformers' layout already.
        untranslated: the state dict as timm wrote it, where timm did: its own code takes that. None where it did not.
        timm: what a ``config.json`` of timm's beside it tells: ``architecture``, ``model_args``.
        said: what was warned of: which of several models was taken, what was left out, what was filled in.
    """

    path: Path
    files: tuple[Path, ...]
    state_dict: ToldStateDict
    steps: tuple[Step, ...]
    folder: Path | None = None
    untranslated: Mapping[str, Tensor] | None = None
    timm: Description | None = None
    said: tuple[str, ...] = ()

    @property
    def known(self) -> dict[str, object]:
        """The settings that are told, as keyword arguments of :func:`conversion.convert`."""
        return {name: each.value for name, each in self.state_dict.told.items()}


def load_checkpoint(path: str | Path, *, entry: str | None = None) -> ToldStateDict:
    """The state dict of :func:`read_checkpoint`, with what the files beside it tell."""
    return read_checkpoint(path, entry=entry).state_dict


def read_checkpoint(path: str | Path, *, entry: str | None = None, dtype: torch.dtype | None = None) -> Checkpoint:
    """Read a checkpoint as an original state dict.

    Tensors are memory-mapped where the format allows it: they are read when used, and the file must stay in place for
    as long.

    Args:
        path: a file of ``torch.save`` or safetensors; an index of shards; a folder with one of these in it, or a
            pattern, for a sharded run's rank files; or a folder that ``from_pretrained`` reads.
        entry: of a training run's checkpoint, the one that holds the model: ``"student"``. Unless given, teacher before
            student and averaged before plain, or what the family takes by default: of Data2Vec-Vision ``model``. Where
            there is a choice, a warning says so.
        dtype: to cast floating-point tensors to; their own unless given.

    Raises:
        CheckpointError: it is absent, empty, truncated, of another format, incomplete, needs code to be run, or holds
            no state dict. The file is named.
    """
    path, steps = Path(path), []
    source = find_source(path)
    told: Mapping[str, Told] = {}
    writer, beside = AUTHORS, None
    untranslated: dict[str, Tensor] | None = None
    folder = path if is_transformers_folder(path) else None

    said: list[str] = []

    def note(name: str, did: str) -> None:
        if did:
            steps.append(Step(name, did))

    with concerning(path):
        if folder:
            state_dict, told, did = _restore_folder(folder, source)
            note("restore", did)
        else:
            opened = _open_files(source)
            state_dict, read, unwrapped = _take_model(source, opened, entry)
            steps += read
            said += [unwrapped.choice] if unwrapped.is_chosen else []
            state_dict, did = strip_prefixes(state_dict, find_dropped)
            note("strip", did)
            selected = select_model(state_dict, unwrapped.path)
            state_dict = selected.state_dict
            note("select", selected.did)
            said.append(selected.did)
            state_dict, did = unchunk_blocks(state_dict)
            note("unchunk", did)
            for family in families():
                before = state_dict
                state_dict, did = family.translate(before)
                note("translate", did)
                said.append(did)
                writer = TIMM if did else writer
                untranslated = before if did else untranslated
                state_dict, did = family.fill(state_dict)
                note("fill", did)
                said.append(did)
            telling = (find_within(source.files[0], opened[0].content), find_beside(source.files[0].parent))
            for each in filter(None, telling):
                check_facts(each, state_dict)
                note("tell", each.did)
            beside = merge_beside(list(filter(None, telling)))
        state_dict, did = cast(state_dict, dtype)
        note("cast", did)
        if untranslated is not None:
            untranslated, _ = cast(untranslated, dtype)
    said = list(filter(None, said))
    for text in said:
        warnings.warn(f"{path}: {text}", ConversionWarning, stacklevel=2)
    told, labels, timm = (beside.told, beside.labels, beside.timm) if beside else (told, None, None)
    state_dict = ToldStateDict(state_dict, told, TIMM if timm else writer, labels)
    return Checkpoint(path, source.files, state_dict, tuple(steps), folder, untranslated, timm, tuple(said))


def is_transformers_folder(path: Path) -> bool:
    """Whether a folder holds a model in transformers' layout: its config names a type that a family converts to.

    Training codes call their files ``config.json`` too, and give types of their own.
    """
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        model_type = config.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return any(model_type == known for family in families() for known in family.model_types)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model in transformers' layout, as they lie in its folder; pickled ones without running code.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    with concerning(folder):
        source = find_source(folder)
        return _take_model(source, _open_files(source), None)[0]


def _open_files(source: Source) -> list[Opened]:
    """The content of each of a source's files, in their order."""
    return [open_file(file) for file in source.files]


def _take_model(
    source: Source, opened: Sequence[Opened], entry: str | None
) -> tuple[dict[str, Tensor], list[Step], Unwrapped]:
    """The state dict in a source's opened files, what was done to get at it, and where it lay in the first of them."""
    count = f"{len(opened)} {source.kind}, " if source.kind != "file" else ""
    foreign = sorted({name for each in opened for name in each.foreign})
    did = count + ", ".join(sorted({each.format for each in opened}))
    did += f"; not built, but stood in for: {', '.join(foreign)}" if foreign else ""
    contents = [_join_shards(source, opened)] if source.kind == "shards" else [each.content for each in opened]
    taken = [unwrap(content, entry) for content in contents]
    for each in taken:
        demand_values(each.state_dict)
    places = {each.path for each in taken}
    if len(places) > 1:
        found = [
            f"{file.name}: {' '.join(each.path) or 'the file itself'}"
            for file, each in zip(source.files, taken, strict=True)
        ]
        hint = "Choose one that all of them have: --entry."
        raise CheckpointError("rank files whose models lie in different entries.", found, hint)
    steps = [Step("open", did), *([Step("unwrap", taken[0].did)] if taken[0].did else [])]
    if source.kind == "ranks":
        state_dict, did = merge_ranks([each.state_dict for each in taken])
        steps.append(Step("merge", did))
    else:
        state_dict = taken[0].state_dict
    demand_whole(state_dict, CONSOLIDATE)
    return state_dict, steps, taken[0]


def _join_shards(source: Source, opened: Sequence[Opened]) -> dict[str, Tensor]:
    """The tensors of all shards, each from the file that the index names, all of them accounted for."""
    held = {file: demand_state_dict(each.content, file.name) for file, each in zip(source.files, opened, strict=True)}
    problems = [
        f"missing: {key}, which the index has in {file.name}"
        for key, file in source.keys.items()
        if key not in held[file]
    ]
    problems += [
        f"unexpected: {key} in {file.name}, of which the index says nothing"
        for file, tensors in held.items()
        for key in tensors
        if source.keys.get(key) != file
    ]
    if problems:
        hint = "Copy all files of one model again."
        raise CheckpointError("shards that are not those of their index.", problems, hint)
    return {key: held[file][key] for key, file in source.keys.items()}


def _restore_folder(folder: Path, source: Source) -> tuple[dict[str, Tensor], dict[str, Told], str]:
    """The original state dict of a model that is in transformers' layout already, and what its config tells of it."""
    converted, _, _ = _take_model(source, _open_files(source), None)
    hint = f"Its {CONFIG} and its weights do not belong together, or it is no model of this project's families."
    try:
        _demand_modesty(folder, len(converted), hint)
        config = read_config(folder)
        family = find_family(config)
        spec = family.read_config(config)
        with warnings.catch_warnings(action="ignore"):
            restored = restore(converted, config, read_left_out(folder))
    except ConversionError as error:
        raise CheckpointError(error.headline, error.problems, error.hint or hint) from None
    except Exception as error:  # transformers raises nearly everything on values that it does not expect
        problems = [f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"]
        raise CheckpointError(f"its {CONFIG} or a file beside it cannot be read.", problems, hint) from error
    told = read_told(folder, family, spec)
    did = f"{len(converted)} tensors in the layout of transformers put back into the original's"
    return restored, told, did


def _demand_modesty(folder: Path, num_tensors: int, hint: str) -> None:
    """Refuse a config of more blocks than there are tensors: transformers makes a list of them, however many."""
    depth = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("num_hidden_layers", 0)
    if not isinstance(depth, int) or depth > num_tensors:
        raise CheckpointError(f"{CONFIG} speaks of {depth!r} blocks, for {num_tensors} tensors.", hint=hint)
