"""The files of an artifact: which they are, whether somebody has written to one, and when they are safe."""

import fnmatch
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conversion.artifact.card import hash_file
from conversion.artifact.weights import MAIN_FILES, SHARDS, WEIGHTS, find_main_file, list_weights
from conversion.errors import ArtifactError
from conversion.exports.asked import FOLDERS, is_exported
from conversion.intake.folder_files import SUFFIXES_OF_WEIGHTS
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, MODEL_CARD, PARITY_CARD, PREPROCESSOR

Fingerprint = tuple[int, ...]

FILES = {CONFIG, WEIGHTS, PREPROCESSOR, MODEL_CARD, PARITY_CARD}
"""Of an artifact whose weights are in one file, with nothing left out."""


def list_files(directory: Path) -> dict[str, Path]:
    """What a model is loaded from, name as published to where it lies."""
    main_file = find_main_file(directory)
    files = {CONFIG: directory / CONFIG, main_file.name: main_file}
    optional = [*list_weights(directory), directory / PREPROCESSOR, directory / LEFT_OUT]
    files |= {path.name: path for path in optional if path.exists()}
    return {MAIN_FILES.get(name, name): path for name, path in files.items()}


def is_ours(name: str) -> bool:
    """Whether a file of an artifact may have this name, or a folder of it."""
    if name in FOLDERS or is_exported(name):
        return True
    ours = FILES | {LEFT_OUT, *MAIN_FILES, *MAIN_FILES.values()}
    return name in ours or fnmatch.fnmatchcase(name, SHARDS)


def list_foreign(directory: Path) -> list[str]:
    """List what lies in an artifact and is no part of it: ``from_pretrained`` may take it for the model.

    What a download or a repository keeps there is left alone, unless there are weights in it.
    """
    try:
        own = {*list_files(directory), *MAIN_FILES, MODEL_CARD, PARITY_CARD, *FOLDERS}
    except ArtifactError:  # an index that cannot be read does not tell which shards are its own
        own = {path.name for path in directory.iterdir() if is_ours(path.name)}
    names = sorted(path.name for path in directory.iterdir())
    foreign = [name for name in names if name not in own and not name.startswith(".")]
    for name in names:
        if name.startswith(".") and name != ".git":
            files = [directory / name, *(directory / name).rglob("*")]
            foreign += sorted(
                path.relative_to(directory).as_posix() for path in files if path.suffix in SUFFIXES_OF_WEIGHTS
            )
    return foreign


def take_fingerprints(directory: Path) -> dict[str, Fingerprint]:
    """Device, inode, size, mtime and ctime of each file. Any write changes them, and ctime cannot be set back."""
    states = {name: path.stat() for name, path in list_files(directory).items()}
    return {
        name: (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        for name, state in states.items()
    }


def seal_files(directory: Path) -> dict[str, str]:
    """Have every file written out to the disk, so that no crash leaves a half of it; name to SHA-256 meanwhile."""
    files = list_files(directory)
    with ThreadPoolExecutor() as pool:
        flushed = pool.map(flush, files.values())
        hashes = dict(zip(files, pool.map(hash_file, files.values()), strict=True))
        list(flushed)  # raises what was raised there
    return hashes


def flush(path: Path) -> None:
    """Have what was written to a file, or renamed in a directory, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no directories
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; one that is there stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be any bytes
        flush(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
