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
        mirror: URL that takes the place of the official one's scheme and host.

    Raises:
        CheckpointError: nothing is published for this variant; a file cannot be had, or is not the one that is known.
    """
    if not variant.is_published:
        files = [f"{role}: {name}" for role, name in variant.files.items()]
        hint = "Give a checkpoint of your own with --checkpoint, or leave this variant out."
        raise CheckpointError(f"{variant.name}: no checkpoint is published.", files, hint)
    paths = {role: cache_path(variant, role) for role in variant.files}
    for role, path in paths.items():
        url = urlsplit(variant.files[role])
        _provide(url.path.lstrip("/"), path, checksums, mirror or f"{url.scheme}://{url.netloc}")
    return paths


def _provide(key: str, path: Path, checksums: Path, base: str) -> None:
    if not path.exists():
        with explain_io_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # without a time limit: who holds it is downloading, and the system releases the lock of a killed process
            with FileLock(path.with_name(f"{path.name}.lock")):
                if not path.exists():
                    known = read_checksums(checksums).get(key)
                    found = fetch(f"{base.rstrip('/')}/{key}", path, known)
                    if known is None:
                        _record(checksums, key, found)
                    return
    known = read_checksums(checksums).get(key)
    if known is None:
        return
    if (found := _measure(path)) != known:
        hint = f"Delete {path}; or, if the official file has changed, remove the entry of {key} from {checksums}."
        raise CheckpointError(f"{path}: is not the file that {checksums} knows.", list_mismatches(found, known), hint)


def _measure(path: Path) -> Checksum:
    try:
        with path.open("rb") as file:
            return Checksum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        hint = "Make it readable; or delete it, and it is downloaded again."
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=hint) from error


def read_checksums(checksums: Path) -> dict[str, Checksum]:
    """Read a file of checksums: URL path to size and SHA-256; nothing where it is absent.

    Raises:
        CheckpointError: it cannot be read, or is no such file.
    """
    try:
        content = json.loads(checksums.read_text(encoding="utf-8"))
        return {key: Checksum(**entry) for key, entry in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        hint = "Put it back as it was; without it, nothing is known, and what is downloaded is recorded anew."
        raise CheckpointError(f"{checksums}: is not a file of checksums.", [str(error)], hint) from error


def _record(checksums: Path, key: str, found: Checksum) -> None:
    """Add an entry, unless another process was first."""
    partial = checksums.with_name(f"{checksums.name}.partial")
    try:
        with FileLock(checksums.with_name(f"{checksums.name}.lock")):
            content = {key: found} | read_checksums(checksums)
            lines = json.dumps({name: asdict(entry) for name, entry in content.items()}, indent=2, sort_keys=True)
            partial.write_text(f"{lines}\n", encoding="utf-8")
            partial.replace(checksums)
    except OSError as error:  # of an installed package, say; the file itself is there and whole
        warnings.warn(
            f"{checksums}: the checksum of {key} cannot be recorded: {error}", ConversionWarning, stacklevel=2
        )
