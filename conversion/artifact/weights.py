"""The weights of an artifact on disk: one file, or shards with an index.

``from_pretrained`` opens one file first, here called the main file: the weights file, or the index of shards. Until an
artifact is published, its main file has a name that nobody asks for. So what a killed run leaves behind does not load
as a model.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from conversion.artifact.safetensors_file import write_safetensors
from conversion.errors import ArtifactError
from conversion.intake import folder_files

if TYPE_CHECKING:
    from huggingface_hub.serialization._base import StateDictSplit
    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-?????-of-?????.safetensors"

UNVERIFIED = "unverified"
UNVERIFIED_WEIGHTS = f"model.{UNVERIFIED}.safetensors"
UNVERIFIED_INDEX = f"model.safetensors.index.{UNVERIFIED}.json"
"""What ``from_pretrained`` reads with ``variant="unverified"``, and only then."""

PICKLED = [name for name in folder_files.MAIN_FILES if name.startswith("pytorch_model")]
"""What ``from_pretrained`` reads where there is no safetensors."""

AGAIN = "Convert the checkpoint again."

# the main file's name before publication, and after it
MAIN_FILES = {UNVERIFIED_WEIGHTS: WEIGHTS, UNVERIFIED_INDEX: INDEX}


def save_weights(state_dict: "Mapping[str, Tensor]", directory: Path, max_shard_size: str | None = None) -> None:
    """Write tensors, straight from where they lie, under the name of a main file that is not published.

    Args:
        max_shard_size: write shards of at most this size, as ``"5GB"``, where all is more; a tensor is never cut.

    Raises:
        ArtifactError: that is no size.
    """
    plan = _plan_shards(state_dict, check_size(max_shard_size)) if max_shard_size is not None else None
    if plan is None or not plan.is_sharded:
        save_tensors(state_dict, directory / UNVERIFIED_WEIGHTS)
        return
    for name, keys in plan.filename_to_tensors.items():
        save_tensors({key: state_dict[key] for key in keys}, directory / name)
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    (directory / UNVERIFIED_INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _plan_shards(state_dict: "Mapping[str, Tensor]", size: str) -> "StateDictSplit":
    from huggingface_hub import split_torch_state_dict_into_shards

    pattern = "model{suffix}.safetensors"
    return split_torch_state_dict_into_shards(dict(state_dict), filename_pattern=pattern, max_shard_size=size)


def check_size(text: str) -> str:
    """A size with its unit, as ``"5GB"``.

    Raises:
        ArtifactError: it is none, or nothing fits into it.
    """
    number, unit = text.strip()[:-2], text.strip()[-2:].upper()
    try:
        is_size = unit in ("KB", "MB", "GB", "TB") and float(number) > 0
    except ValueError:
        is_size = False
    if not is_size:
        raise ArtifactError(f"max_shard_size: {text!r} is no size.", hint="Give one with its unit: 500MB, 5GB.")
    return text


def save_tensors(state_dict: "Mapping[str, Tensor]", path: Path) -> None:
    """Write a file of tensors, aligned; see :mod:`conversion.artifact.safetensors_file`."""
    write_safetensors(state_dict, path)


def publish_weights(directory: Path) -> None:
    """Give the main file the name that ``from_pretrained`` opens."""
    main_file = find_main_file(directory)
    main_file.rename(main_file.with_name(MAIN_FILES.get(main_file.name, main_file.name)))


def is_published(directory: Path) -> bool:
    """Whether ``from_pretrained`` finds no unverified weights in it."""
    return not any((directory / name).exists() for name in MAIN_FILES)


def find_main_file(directory: Path) -> Path:
    """The weights file or the index, unverified or published, in the order in which they are looked for."""
    names = [*MAIN_FILES, *MAIN_FILES.values()]
    return next((directory / name for name in names if (directory / name).exists()), directory / WEIGHTS)


def is_pickled(directory: Path) -> bool:
    """Whether ``from_pretrained`` takes pickled weights in it, as it does where there are no others."""
    names = [name for name in PICKLED if (directory / name).exists()]
    return bool(names) and not find_main_file(directory).exists()


def list_weights(directory: Path) -> list[Path]:
    """The files that hold tensors: one, or the shards that the index names."""
    main_file = find_main_file(directory)
    if main_file.suffix != ".json":
        return [main_file]
    return [directory / name for name in sorted(set(_read_index(main_file).values()))]


def read_tensors(directory: Path) -> "dict[str, Tensor]":
    """The tensors of an artifact's weights, on-disk layout, mapped into memory."""
    with ExitStack() as stack:
        files = [stack.enter_context(_open(path)) for path in list_weights(directory)]
        return {key: file.get_tensor(key) for file in files for key in file.keys()}  # noqa: SIM118 (not a mapping)


def list_keys(directory: Path) -> list[str]:
    """The keys of an artifact's tensors; none where their file would have to be unpickled for that."""
    main_file = find_main_file(directory)
    if main_file.suffix == ".json":
        return list(_read_index(main_file))
    if is_pickled(directory):
        return []
    with _open(main_file) as file:
        return list(file.keys())


def _read_index(index: Path) -> dict[str, str]:
    """Key to the name of the file that holds it, beside the index."""
    try:
        names: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        foreign = sorted({name for name in names.values() if Path(name).name != name})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{index}: cannot be read as an index: {error!r}", hint=AGAIN) from error
    if foreign or not names:
        raise ArtifactError(f"{index}: names no files beside it.", foreign, AGAIN)
    return names


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        file = safe_open(path, framework="pt")
    except (OSError, UnicodeError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}".encode(errors="replace").decode(), hint=AGAIN) from error
    with file:
        yield file
