"""Temporary folders for drawn checkpoints: what a killed run has left of them, the next one removes."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "parity-scratch-"
LOCK = ".lock"

MIN_AGE = 60.0
"""Seconds. A younger folder may be one that another process has made and not locked yet."""


@contextmanager
def open_scratch() -> Iterator[Path]:
    """A temporary folder that is gone afterwards, at the latest when the next one is opened."""
    remove_abandoned(Path(tempfile.gettempdir()))
    # gigabytes may be in it when the process is killed; the system releases the lock then
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, FileLock(Path(name) / LOCK):
        yield Path(name)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders whose process is gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):  # it is another user's, or in use
            if time.time() - folder.stat().st_mtime > MIN_AGE:
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
