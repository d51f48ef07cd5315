"""Intake, whole: what people have, read as a clean original state dict, with a record of what was done to it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from conversion.errors import CheckpointError, ConversionWarning, concerning
from conversion.families.base import families, find_dropped
from conversion.families.settings import AUTHORS, TIMM
from conversion.families.timm_code import Description
from conversion.families.told import Origin, Told, ToldStateDict, read_version
from conversion.intake.beside import check_facts, find_beside, merge_beside
from conversion.intake.dcp import check_read
from conversion.intake.layouts import tell_likeness
from conversion.intake.prefixes import select_model
from conversion.intake.reading import read_source
from conversion.intake.restored import restore_folder
from conversion.intake.settings_file import Beside
from conversion.intake.sources import Source, find_source
from conversion.intake.steps import Step, cast, count_chunks, strip_prefixes, unchunk_blocks
from conversion.intake.transformers_folder import is_transformers_folder, refuse_adapters, refuse_layout
from conversion.intake.within import find_within
from conversion.mapping.key_map import shapes_of


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
    path = Path(path)
    source = find_source(path)
    folder = path if is_transformers_folder(path) else None
    with concerning(path):
        if like is not None and source.kind != "ranks":
            raise CheckpointError("--like applies only to the rank files of a sharded run.", hint="Leave --like out.")
        if entry is not None and folder:
            raise CheckpointError(
                "--entry is for a training run; this folder holds one model.", hint="Leave --entry out."
            )
        reading = _read_folder(folder, source) if folder else _read_original(path, source, entry, like)
        reading.take("cast", *cast(reading.state_dict, dtype))
        if reading.untranslated is not None:
            reading.untranslated, _ = cast(reading.untranslated, dtype)
    for text in reading.said:
        warnings.warn(f"{path}: {text}", ConversionWarning, stacklevel=2)
    return Checkpoint(
        path=path,
        files=reading.files,
        state_dict=reading.tell(),
        steps=tuple(reading.steps),
        folder=folder,
        untranslated=reading.untranslated,
        timm=reading.timm,
        said=tuple(reading.said),
        gone=reading.gone,
    )


@dataclass
class _Reading:
    """A checkpoint while it is read; what its attributes mean, :class:`Checkpoint` says."""

    files: tuple[Path, ...]
    state_dict: dict[str, Tensor] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    told: Mapping[str, Told] = field(default_factory=dict)
    writer: str = AUTHORS
    labels: tuple[str, ...] | None = None
    untranslated: dict[str, Tensor] | None = None
    timm: Description | None = None
    gone: str = ""

    def note(self, name: str, did: str, *, is_news: bool = False) -> None:
        """Note a step, if it did anything; where that is news, it is warned of."""
        if did:
            self.steps.append(Step(name, did))
            self.said += [did] if is_news else []

    def take(self, name: str, state_dict: dict[str, Tensor], did: str, *, is_news: bool = False) -> None:
        """Go on with what a step gives; where that is news, it is warned of."""
        self.state_dict = state_dict
        self.note(name, did, is_news=is_news)

    def tell(self) -> ToldStateDict:
        """The state dict, with where it was read, and what it is now, so that it shows when either is changed."""
        states = {path.absolute(): path.stat() for path in self.files}
        origin = Origin(
            files={path: (state.st_size, state.st_mtime_ns) for path, state in states.items()},
            steps=tuple((step.name, step.did) for step in self.steps),
            tensors={key: (tensor, read_version(tensor)) for key, tensor in self.state_dict.items()},
        )
        return ToldStateDict(self.state_dict, self.told, TIMM if self.timm else self.writer, self.labels, origin)


def _read_folder(folder: Path, source: Source) -> _Reading:
    """Read what is in transformers' layout already."""
    refuse_adapters(folder)
    reading = _Reading(source.files)
    reading.note("choose", source.choice, is_news=source.is_chosen)
    restored = restore_folder(folder, source)
    reading.take("restore", restored.state_dict, restored.did)
    reading.told, reading.labels, reading.gone = restored.told, restored.labels, restored.gone
    reading.said += [restored.others] if restored.others else []
    return reading


def _read_original(path: Path, source: Source, entry: str | None, like: str | None) -> _Reading:
    """Read what a training code or another library wrote, step by step."""
    read = read_source(source, entry, like)
    reading = _Reading(read.files, read.state_dict)
    reading.note("choose", source.choice, is_news=source.is_chosen)
    reading.steps += read.steps
    reading.said += [read.unwrapped.choice] if read.unwrapped.is_chosen else []
    reading.take("strip", *strip_prefixes(reading.state_dict, find_dropped))
    selected = select_model(reading.state_dict, read.unwrapped.path)
    reading.take("select", selected.state_dict, selected.did, is_news=True)
    num_chunks = count_chunks(reading.state_dict)
    reading.take("unchunk", *unchunk_blocks(reading.state_dict))
    first = find_within(source.files[0], read.content) or (tell_likeness(like) if like else None)
    telling = [each for each in (first, find_beside(source.files[0].parent)) if each]
    _translate(reading, next((each.timm for each in telling if each.timm), None))
    if not any(family.matches(shapes_of(reading.state_dict)) for family in families()):
        refuse_layout(path, source.files, reading.state_dict)
    if source.kind == "distributed":
        check_read(reading.state_dict)
    _learn(reading, telling, num_chunks)
    return reading


def _translate(reading: _Reading, described: Description | None) -> None:
    """Give other libraries' tensors the authors' names; timm's are kept besides, for timm's own code."""
    for family in families():
        before = reading.state_dict
        state_dict, did = family.translate(before, described)
        # the names of another library than timm are no news
        reading.take("translate", state_dict, did, is_news=family.foreign == TIMM)
        if did:
            reading.writer = family.foreign
            reading.untranslated = before if family.foreign == TIMM else reading.untranslated


def _learn(reading: _Reading, telling: Sequence[Beside], num_chunks: int) -> None:
    """Take what files tell that no tensor does, once all else that they tell was found to be so."""
    for each in telling:
        check_facts(each, reading.state_dict, num_chunks)
        reading.note("tell", each.did, is_news=bool(each.otherwise))
    if beside := merge_beside(telling):
        reading.told, reading.labels, reading.timm = beside.told, beside.labels, beside.timm
