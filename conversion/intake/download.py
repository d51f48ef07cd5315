"""Official checkpoints, downloaded to where torch.hub keeps its own, and held against what they were before."""

import hashlib
import json
import warnings
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch.hub
from filelock import FileLock

from conversion.errors import CheckpointError, ConversionWarning
from conversion.families.variants import VARIANTS, Variant
from conversion.intake.fetching import Checksum, explain_io_errors, fetch, list_mismatches

OFFICIAL = "https://dl.fbaipublicfiles.com"
"""What a mirror stands in for."""


def cache_path(variant: Variant, role: str) -> Path:
    """Where torch.hub keeps this file; with the variant's name before it where other files have the same name."""
    url = variant.files[role]
    urls = {url, *(url for row in VARIANTS.values() for url in row.files.values())}
    names = [PurePosixPath(urlsplit(each).path).name for each in (url, *(urls - {url}))]
    name = f"{variant.name}-{names[0]}" if names[0] in names[1:] else names[0]
    return Path(torch.hub.get_dir()) / "checkpoints" / name


CHECKSUMS = Path(__file__).parents[2] / "fixtures" / "checksums.json"
"""What official downloads were when somebody first saw one arrive whole: in a checkout of this project."""


def find_checksums() -> Path:
    """The file of checksums: a checkout's; of an installed package, beside the downloads."""
    return CHECKSUMS if CHECKSUMS.parent.is_dir() else Path(torch.hub.get_dir()) / "checkpoints" / CHECKSUMS.name


def download_checkpoint(variant: Variant, checksums: Path, mirror: str | None = None) -> dict[str, Path]:
    """A variant's official files, role to path; downloaded unless they are in the cache of torch.hub already.

    Args:
        variant: whose files.
        checksums: JSON file, URL path to size and SHA-256. What it knows is demanded; what is downloaded here and not
            known is added. May be absent.
        mirror: URL that takes the place of ``OFFICIAL``.

    Raises:
        CheckpointError: nothing is published for this variant; a file cannot be had, or is not the one that is known.
    """
    unpublished = [f"{role}: {url}" for role, url in variant.files.items() if not url.startswith(f"{OFFICIAL}/")]
    if unpublished:
        hint = "Give a checkpoint of your own with --checkpoint, or leave this variant out."
        raise CheckpointError(f"{variant.name}: no checkpoint is published.", unpublished, hint)
    paths = {role: cache_path(variant, role) for role in variant.files}
    for role, path in paths.items():
        with explain_io_errors(path):
            _provide(variant.files[role].removeprefix(f"{OFFICIAL}/"), path, checksums, mirror or OFFICIAL)
    return paths


def _provide(key: str, path: Path, checksums: Path, base: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # without a time limit: who holds it is downloading, and the system releases the lock of a killed process
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                known = _read_checksums(checksums).get(key)
                found = fetch(f"{base.rstrip('/')}/{key}", path, known)
                if known is None:
                    _record(checksums, key, found)
                return
    known = _read_checksums(checksums).get(key)
    if known is None:
        return
    with path.open("rb") as file:
        found = Checksum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    if found != known:
        hint = f"Delete {path}; or, if the official file has changed, remove the line of {key} from {checksums}."
        raise CheckpointError(f"{path}: is not the file that {checksums} knows.", list_mismatches(found, known), hint)


def _read_checksums(checksums: Path) -> dict[str, Checksum]:
    try:
        content = json.loads(checksums.read_text(encoding="utf-8"))
        return {key: Checksum(**entry) for key, entry in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        hint = "Put it back as it was; without it, nothing is known, and what is downloaded is recorded anew."
        raise CheckpointError(f"{checksums}: is not a file of checksums.", [str(error)], hint) from error


def _record(checksums: Path, key: str, found: Checksum) -> None:
    """Add a line, unless another process was first."""
    partial = checksums.with_name(f"{checksums.name}.partial")
    try:
        with FileLock(checksums.with_name(f"{checksums.name}.lock")):
            content = {key: found} | _read_checksums(checksums)
            lines = json.dumps({name: asdict(entry) for name, entry in content.items()}, indent=2, sort_keys=True)
            partial.write_text(f"{lines}\n", encoding="utf-8")
            partial.replace(checksums)
    except OSError as error:  # of an installed package, say; the file itself is there and whole
        warnings.warn(
            f"{checksums}: the checksum of {key} cannot be recorded: {error}", ConversionWarning, stacklevel=2
        )
