"""Temporary folders, and what is left of them by a run that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conversion.suite import scratch
from conversion.suite.scratch import open_scratch

HOLD = """
from conversion.suite.scratch import open_scratch
with open_scratch() as folder:
    (folder / "drawn.pth").write_bytes(b"weights")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, in this process and in others."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_afterwards(parent: Path) -> None:
    with open_scratch() as folder:
        (folder / "drawn.pth").write_bytes(b"weights")
        assert folder.parent == parent
    assert list(parent.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_stays(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MIN_AGE", 0.0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD], **pipes)  # type: ignore[call-overload]
    folder = Path(process.stdout.readline().strip())
    with open_scratch():
        assert (folder / "drawn.pth").exists(), "another process works in it"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists()
    with open_scratch():
        assert not folder.exists()


def test_a_folder_that_was_just_made_is_left_alone(parent: Path) -> None:
    """Its process may not have come to lock it."""
    young, old = parent / f"{scratch.PREFIX}young", parent / f"{scratch.PREFIX}old"
    young.mkdir()
    old.mkdir()
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    with open_scratch():
        assert young.exists()
        assert not old.exists()
