"""Intake, whole: what people have, read as a clean original state dict, with a record of what was done to it."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conversion.errors import CheckpointError, ConversionError, ConversionWarning, concerning
from conversion.families.base import families, find_dropped
from conversion.families.timm_code import Description
from conversion.families.told import AUTHORS, TIMM, Origin, Told, ToldStateDict, read_version
from conversion.intake.beside import check_facts, find_beside, merge_beside
from conversion.intake.dcp import demand_read, read_distributed
from conversion.intake.evaluated import check_teacher
from conversion.intake.flattened import is_flattened, unflatten_ranks
from conversion.intake.layouts import find_layout, tell_likeness
from conversion.intake.opening import Opened, open_file
from conversion.intake.prefixes import select_model
from conversion.intake.ranks import WHOLE, demand_whole, merge_ranks
from conversion.intake.shards import join_shards
from conversion.intake.sources import CONSOLIDATE, Source, find_source
from conversion.intake.steps import cast, count_chunks, demand_values, strip_prefixes, unchunk_blocks
from conversion.intake.told_by_folder import describe_others, read_told
from conversion.intake.transformers_folder import (
    is_transformers_folder,
    refuse_adapters,
    refuse_layout,
)
from conversion.intake.unwrapping import Unwrapped, unwrap
from conversion.intake.within import find_within
from conversion.mapping.key_map import shapes_of
from conversion.state_dicts.folder import CONFIG, read_config, read_left_out
from conversion.state_dicts.in_memory import name_as_in_files
from conversion.state_dicts.restore import describe_alike, find_family, restore_whole


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
        gone: what of the original is neither in a folder of transformers nor beside it, in words; empty if nothing.
    """

    path: Path
    files: tuple[Path, ...]
    state_dict: ToldStateDict
    steps: tuple[Step, ...]
    folder: Path | None = None
    untranslated: Mapping[str, Tensor] | None = None
    timm: Description | None = None
    said: tuple[str, ...] = ()
    gone: str = ""

    @property
    def known(self) -> dict[str, object]:
        """The settings that are told, as keyword arguments of :func:`conversion.convert`."""
        return {name: each.value for name, each in self.state_dict.told.items()}


def load_checkpoint(path: str | Path, *, entry: str | None = None, like: str | None = None) -> ToldStateDict:
    """The state dict of :func:`read_checkpoint`, with what the files beside it tell."""
    return read_checkpoint(path, entry=entry, like=like).state_dict


def read_checkpoint(
    path: str | Path, *, entry: str | None = None, dtype: torch.dtype | None = None, like: str | None = None
) -> Checkpoint:
    """Read a checkpoint as an original state dict.

    Tensors are memory-mapped where the format allows it: they are read when used, and the file must stay in place for
    as long.

    Args:
        path: a file of ``torch.save`` or safetensors; an index of shards; a folder with one of these in it, or a
            pattern, for a sharded run's rank files; a folder of torch.distributed.checkpoint, of which the model's
            tensors alone are read; or a folder that ``from_pretrained`` reads.
        entry: of a training run's checkpoint, the one that holds the model: ``"student"``. Unless given, teacher before
            student and averaged before plain, or what the family takes by default: of Data2Vec-Vision ``model``. Where
            there is a choice, a warning says so.
        dtype: to cast floating-point tensors to; their own unless given.
        like: name of an official model with the shapes of FSDP's flattened parameters, where no ``config.yaml`` of the
            training run lies beside them. The number of positions may differ.

    Raises:
        CheckpointError: it is absent, empty, truncated, of another format, incomplete, needs code to be run, or holds
            no state dict. The file is named.
        VariantError: there is no official model that it is said to be like.
    """
    path, steps = Path(path), []
    source = find_source(path)
    told: Mapping[str, Told] = {}
    writer, beside = AUTHORS, None
    untranslated: dict[str, Tensor] | None = None
    folder, files = path if is_transformers_folder(path) else None, source.files
    said: list[str] = []
    gone = ""

    def note(name: str, did: str) -> None:
        if did:
            steps.append(Step(name, did))

    with concerning(path):
        if like is not None and source.kind != "ranks":
            raise CheckpointError("--like is for all rank files of a sharded run.", hint="Leave --like out.")
        note("choose", source.choice)
        if folder:
            refuse_adapters(folder)
            state_dict, told, did, others, gone = _restore_folder(folder, source)
            note("restore", did)
            said.append(others)
        else:
            read = _read_source(source, entry, like)
            state_dict, files, unwrapped = read.state_dict, read.files, read.unwrapped
            steps += read.steps
            said += [unwrapped.choice] if unwrapped.is_chosen else []
            state_dict, did = strip_prefixes(state_dict, find_dropped)
            note("strip", did)
            selected = select_model(state_dict, unwrapped.path)
            state_dict = selected.state_dict
            note("select", selected.did)
            said.append(selected.did)
            num_chunks = count_chunks(state_dict)
            state_dict, did = unchunk_blocks(state_dict)
            note("unchunk", did)
            told_by = find_within(source.files[0], read.content) or (tell_likeness(like) if like else None)
            telling = (told_by, find_beside(source.files[0].parent))
            described = next((each.timm for each in telling if each and each.timm), None)
            for family in families():
                before = state_dict
                state_dict, did = family.translate(before, described)
                note("translate", did)
                said.append(did if family.foreign == TIMM else "")  # the names of another library are no news
                writer = family.foreign if did else writer
                untranslated = before if did and writer == TIMM else untranslated
            if not any(family.matches(shapes_of(state_dict)) for family in families()):
                refuse_layout(path, source.files, state_dict)
            if source.kind == "distributed":
                demand_read(state_dict)
            for each in filter(None, telling):
                check_facts(each, state_dict, num_chunks)
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
    origin = _note_origin(files, steps, state_dict)
    state_dict = ToldStateDict(state_dict, told, TIMM if timm else writer, labels, origin)
    return Checkpoint(path, files, state_dict, tuple(steps), folder, untranslated, timm, tuple(said), gone)


def _note_origin(files: Sequence[Path], steps: Sequence[Step], state_dict: Mapping[str, Tensor]) -> Origin:
    """Where a state dict was read, and what it is now, so that it shows when either is changed."""
    states = {path.absolute(): path.stat() for path in files}
    return Origin(
        files={path: (state.st_size, state.st_mtime_ns) for path, state in states.items()},
        steps=tuple((step.name, step.did) for step in steps),
        tensors={key: (tensor, read_version(tensor)) for key, tensor in state_dict.items()},
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model in transformers' layout, as they lie in its folder; pickled ones without running code.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    with concerning(folder):
        source = find_source(folder)
        return name_as_in_files(_take_model(source, _open_files(source), None)[0])[0]


class Read(NamedTuple):
    """What was read of a source.

    Attributes:
        unwrapped: where it lay in the first file.
        content: of the first file; None of a distributed checkpoint.
    """

    state_dict: dict[str, Tensor]
    steps: list[Step]
    unwrapped: Unwrapped
    content: Any
    files: tuple[Path, ...]


def _read_source(source: Source, entry: str | None, like: str | None) -> Read:
    """Read the model in a source, of whichever kind it is."""
    if source.kind == "distributed":
        found = read_distributed(source.files[0].parent, entry)
        demand_whole(found.state_dict, WHOLE)
        steps = [Step("open", found.opened), *([Step("unwrap", found.choice)] if found.choice else [])]
        return Read(found.state_dict, steps, found.taken, None, found.files)
    opened = _open_files(source)
    return Read(*_take_model(source, opened, entry, like), opened[0].content, source.files)


def _open_files(source: Source) -> list[Opened]:
    """The content of each of a source's files, in their order."""
    return [open_file(file) for file in source.files]


def _take_model(
    source: Source, opened: Sequence[Opened], entry: str | None, like: str | None = None
) -> tuple[dict[str, Tensor], list[Step], Unwrapped]:
    """The state dict in a source's opened files, what was done to get at it, and where it lay in the first of them."""
    count = f"{len(opened)} {source.kind}, " if source.kind != "file" else ""
    foreign = sorted({name for each in opened for name in each.foreign})
    did = count + ", ".join(sorted({each.format for each in opened}))
    did += f"; not built, but stood in for: {', '.join(foreign)}" if foreign else ""
    contents = [join_shards(source, opened)] if source.kind == "shards" else [each.content for each in opened]
    taken = [unwrap(content, entry) for content in contents]
    for each in taken:
        demand_values(each.state_dict)
    places = {each.path for each in taken}
    if len(places) > 1:
        found = [
            f"{file.name}: {' '.join(each.path) or 'the file itself'}"
            for file, each in zip(source.files, taken, strict=True)
        ]
        hint = "Give the name of one that all of them have: --entry NAME."
        raise CheckpointError("rank files whose models lie in different entries.", found, hint)
    steps = [Step("open", did), *([Step("unwrap", taken[0].did)] if taken[0].did else [])]
    if source.kind == "ranks" and is_flattened(taken[0].state_dict):
        layout = find_layout(source.files[0].parent, like)
        state_dict, did = unflatten_ranks([each.state_dict for each in taken], layout)
        same = check_teacher(source.files[0], state_dict) if taken[0].path[-1:] == ("teacher",) else ""
        steps.append(Step("merge", "; ".join(filter(None, (did, same)))))
    elif source.kind == "ranks":
        state_dict, did = merge_ranks([each.state_dict for each in taken])
        steps.append(Step("merge", did))
    else:
        state_dict = taken[0].state_dict
    demand_whole(state_dict, CONSOLIDATE)
    return state_dict, steps, taken[0]


def _restore_folder(folder: Path, source: Source) -> tuple[dict[str, Tensor], dict[str, Told], str, str, str]:
    """The original state dict of a model that is in transformers' layout already, and what its config tells of it.

    Returns:
        these, what was done, what its config says otherwise than the original has it, and what is gone, in words.
    """
    converted, named = name_as_in_files(_take_model(source, _open_files(source), None)[0])
    hint = f"Give a folder whose {CONFIG} and weights were saved together."
    try:
        _demand_modesty(folder, len(converted), hint)
        config = read_config(folder)
        family = find_family(config)
        spec = family.read_config(config)
        restored, gone = restore_whole(converted, config, read_left_out(folder))
        alike = describe_alike(family, config)
    except ConversionError as error:
        raise CheckpointError(error.headline, error.problems, error.hint or hint) from None
    except Exception as error:  # transformers raises nearly everything on values that it does not expect
        problems = [f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"]
        raise CheckpointError(f"its {CONFIG} or a file beside it cannot be read.", problems, hint) from error
    told = read_told(folder, family, spec)
    did = f"{len(converted)} tensors in the layout of transformers put back into the original's"
    others = describe_others(family, spec, restored)
    return restored, told, "; ".join(filter(None, [did, named, gone, alike, others])), others, gone


def _demand_modesty(folder: Path, num_tensors: int, hint: str) -> None:
    """Refuse a config of more blocks than there are tensors: transformers makes a list of them, however many."""
    depth = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("num_hidden_layers", 0)
    if not isinstance(depth, int) or depth > num_tensors:
        raise CheckpointError(f"its {CONFIG} tells of {depth!r} blocks; there are {num_tensors} tensors.", hint=hint)
