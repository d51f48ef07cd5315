"""What a path stands for: a file, shards of one model, rank files of a training run, or a distributed checkpoint."""

import glob
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from conversion.errors import CheckpointError, concerning
from conversion.intake import deepspeed
from conversion.intake.absence import explain_absence
from conversion.intake.dcp_metadata import METADATA
from conversion.intake.folder_files import INDEX, describe_choice, list_weights, refuse_shard, refuse_shards, suggest
from conversion.intake.transformers_folder import find_main_file, is_of_library, is_transformers_folder

RANK = re.compile(r"(?<=rank)([_-]?)(\d+)", re.IGNORECASE)

CONSOLIDATE = "Give all rank files of the run, as their folder or as a pattern in quotes: 'model_*.rank_*.pth'."
"""What torch.distributed.checkpoint calls the file that tells where each tensor lies."""

PART = ".distcp"
"""What the names of its files with tensors end with."""

MAX_DEPTH, MAX_FOLDERS = 4, 100
"""How deep in each other folders are searched for a checkpoint that a message can name, and how many of a level."""

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What the one file of a model goes by in a folder of transformers."""

WHOLE_FOLDER = (
    "Give the folder as torch.distributed.checkpoint wrote it, with its .metadata (ls -a shows it): "
    "nothing else tells which tensors there are."
)


@dataclass(frozen=True)
class Source:
    """The files of one checkpoint, and how they belong together.

    Attributes:
        files: in the order of their ranks, or as their index names them.
        keys: of shards, key to the file that holds it.
        choice: what was taken of a folder, and what was not, in a line; empty where there was no choice.
        is_chosen: what was not taken may be another model.
    """

    kind: Literal["file", "shards", "ranks", "distributed"]
    files: tuple[Path, ...]
    keys: Mapping[str, Path] = field(default_factory=dict)
    choice: str = ""
    is_chosen: bool = False


def find_source(path: Path) -> Source:
    """Find the files of a checkpoint.

    Args:
        path: a file; an index of shards; a pattern with ``*``; or a folder that holds one checkpoint.

    Raises:
        CheckpointError: there are none, several, or not all of them.
    """
    with concerning(path):
        try:
            if path.is_dir():
                return _look_into(path)
        except (OSError, ValueError) as error:
            raise explain_absence(path, error) from error
        if glob.has_magic(str(path)) and not path.exists():
            found = sorted(Path(name) for name in glob.glob(str(path)))  # noqa: PTH207 (it may be absolute)
            if not found:
                raise CheckpointError("no file matches this pattern.", hint="Check the path; quote it in a shell.")
            return find_source(found[0]) if len(found) == 1 else _order_ranks(found)
        if path.name.endswith(INDEX):
            return _read_index(path)
        if path.name == METADATA and path.is_file():
            return Source("distributed", (path,))
        _refuse_part(path)
        ranks = [path, *_siblings_of(path)]
        # other numbers have other meanings
        if len(ranks) > 1 and sorted(map(_rank_of, ranks)) == list(range(len(ranks))):
            names = [sibling.name for sibling in ranks[1:]]
            pattern = path.with_name(RANK.sub(r"\1*", path.name))
            raise CheckpointError(
                "one rank file of several; the others lie beside it.", names, f"Give all: {suggest(pattern)}"
            )
        return Source("file", (path,))


def _look_into(folder: Path) -> Source:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if (folder / METADATA).is_file():
        return Source("distributed", (folder / METADATA,))
    parts = [path.name for path in files if path.suffix == PART]
    if parts:
        raise CheckpointError(f"a checkpoint of torch.distributed.checkpoint without {METADATA}.", parts, WHOLE_FOLDER)
    main_file = find_main_file(folder)
    if main_file and is_of_library(folder):
        return _choose(main_file, files, "as from_pretrained does")
    weights = list_weights(files)
    if deepspeed.is_step(weights):
        model = deepspeed.find_model(weights)
        return Source("file", (model,), choice=deepspeed.describe_model(model, weights))
    if not weights and (step := deepspeed.find_step(folder)):
        source = _look_into(step)
        if is_transformers_folder(folder):
            _refuse_unread(list(source.files))
        others = deepspeed.list_other_steps(step)
        choice = "; ".join(filter(None, [deepspeed.describe_step(step, others), source.choice]))
        return replace(source, choice=choice, is_chosen=source.is_chosen or bool(others))
    indices = [path for path in files if path.name.endswith(INDEX)]
    if main_file and not {path.name for path in weights} - set(WHOLE):
        return _choose(main_file, files, "as from_pretrained does")
    if len(indices) == 1 and not any(path.name in WHOLE for path in weights):
        return _choose(indices[0], files, "whose shards are one model")
    if len(indices) > 1:
        names = [path.name for path in indices]
        hint = f"Give one of these files, as: {suggest(indices[-1])}"
        raise CheckpointError("a folder with several indices of shards in it.", names, hint)
    refuse_shards(weights)
    if weights and is_transformers_folder(folder):
        _refuse_unread(weights)
    if len(weights) == 1:
        return Source("file", (weights[0],))
    if len(weights) > 1 and all(RANK.search(path.name) for path in weights):
        return _order_ranks(weights)
    within = [path.name for path in sorted(folder.iterdir()) if (path / METADATA).is_file()]
    if not weights and within:
        hint = f"Give one of them, as: {suggest(folder / within[0])}"
        raise CheckpointError("a folder of checkpoints of torch.distributed.checkpoint.", within, hint)
    if not weights:
        raise _explain_emptiness(folder, files)
    names = [path.name for path in weights]
    raise CheckpointError(
        "a folder with several checkpoints in it.", names, hint=f"Give one of them, as: {suggest(weights[-1])}"
    )


def _explain_emptiness(folder: Path, files: list[Path]) -> CheckpointError:
    """What to say of a folder without a checkpoint; those in its own folders are named."""
    inner = _find_folders(folder)
    if not inner:
        names = [path.name for path in files]
        if is_transformers_folder(folder):
            hint = f"Copy {WHOLE[0]} into it, or the shards and their index."
            return CheckpointError("a folder of transformers without weights in it.", names, hint)
        return CheckpointError("a folder without a checkpoint in it.", names, hint="Give the checkpoint file itself.")
    names = [f"{path.relative_to(folder)}/" for path in inner]
    hint = f"Give one of these, as: {suggest(inner[-1])}"
    return CheckpointError("a folder without a checkpoint in it; there are some in its subfolders.", names, hint)


def _find_folders(folder: Path) -> list[Path]:
    """The nearest folders within a folder that may hold a checkpoint; ``lightning_logs/version_0/checkpoints``."""
    level = [folder]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _list_folders(each)][:MAX_FOLDERS]
        if found := [each for each in level if _may_hold_checkpoint(each)]:
            return found
    return []


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _may_hold_checkpoint(folder: Path) -> bool:
    try:
        return bool(list_weights(folder.iterdir()) or deepspeed.find_step(folder) or (folder / METADATA).exists())
    except OSError:
        return False


def _choose(main_file: Path, files: list[Path], why: str) -> Source:
    """The model that is entered by this file, with what of its folder was not taken."""
    source = _read_index(main_file) if main_file.name.endswith(INDEX) else Source("file", (main_file,))
    choice = describe_choice([main_file, *source.files], why, files)
    return replace(source, choice=choice, is_chosen=bool(choice))


def _refuse_part(path: Path) -> None:
    """Refuse a file that is a part of something, by its name."""
    if not path.is_file():
        return
    deepspeed.refuse_part(path)
    refuse_shard(path)
    if path.suffix == PART:
        hint = f"Give its folder: {path.absolute().parent}" if (path.parent / METADATA).is_file() else WHOLE_FOLDER
        raise CheckpointError("one part of a checkpoint of torch.distributed.checkpoint.", hint=hint)


def _refuse_unread(weights: list[Path]) -> None:
    """Refuse a folder of transformers without a file that ``from_pretrained`` reads."""
    hint = f"If one of these is an original checkpoint, give that file: {suggest(weights[-1])}"
    names = [path.name for path in weights]
    raise CheckpointError("a folder of transformers without weights that from_pretrained reads.", names, hint=hint)


def _read_index(index: Path) -> Source:
    """The shards that an index of safetensors or PyTorch files names; all must lie beside it."""
    try:
        names: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problems = [f"{type(error).__name__}: {error}"]
        raise CheckpointError(f"{index}: cannot be read as an index of shards.", problems, "Copy it again.") from error
    # nothing but the names of files: an index does not lead out of its folder
    foreign = sorted({str(name) for name in names.values() if Path(str(name)).name != name})
    if foreign or not names:
        hint = "Copy it again, and the shards that it names beside it."
        raise CheckpointError(f"{index}: names no files beside it.", foreign, hint)
    keys = {str(key): index.parent / name for key, name in names.items()}
    files = tuple(dict.fromkeys(keys.values()))
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        headline = f"{index}: {len(absent)} of {len(files)} shards are not there."
        raise CheckpointError(headline, absent, "Copy them beside it.")
    return Source("shards", files, keys)


def _order_ranks(files: list[Path]) -> Source:
    """Rank files in the order of their ranks, none missing, all of one run."""
    unnumbered = [file.name for file in files if not RANK.search(file.name)]
    if unnumbered:
        hint = f"Give one of them, as: {suggest(files[0].with_name(unnumbered[-1]))}"
        raise CheckpointError("several files, and not all of them rank files.", unnumbered, hint)
    if all(map(deepspeed.MODEL.fullmatch, [file.name for file in files])):
        deepspeed.find_model(files)
    runs = {RANK.sub(r"\1*", file.name) for file in files}
    if len(runs) > 1:
        hint = f"Give the pattern of one, as: {suggest(files[-1].with_name(max(runs)))}"
        raise CheckpointError("rank files of several checkpoints.", sorted(runs), hint)
    by_rank = {_rank_of(file): file for file in files}
    missing = [f"rank {rank}" for rank in range(max(by_rank) + 1) if rank not in by_rank]
    if len(by_rank) < len(files):
        names = [file.name for file in files]
        hint = "Move all but one file of each rank to another folder."
        raise CheckpointError("several files of one rank.", names, hint)
    if missing or len(files) == 1:
        raise CheckpointError("rank files are missing.", missing, hint="Copy them beside the others.")
    return Source("ranks", tuple(by_rank[rank] for rank in sorted(by_rank)))


def _rank_of(file: Path) -> int:
    found = RANK.findall(file.name)
    return int(found[-1][1])


def _siblings_of(path: Path) -> list[Path]:
    """Files beside this one whose names differ in the number of a rank alone."""
    if not RANK.search(path.name) or not path.is_file():
        return []
    pattern = RANK.sub(r"\1*", path.name)
    return [
        other
        for other in sorted(path.parent.iterdir())
        if other != path and other.is_file() and RANK.search(other.name) and RANK.sub(r"\1*", other.name) == pattern
    ]
