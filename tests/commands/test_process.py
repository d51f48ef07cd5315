"""``vision-parity`` and pytest as processes of their own: what they write, and what they end with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.support.golden import list_options

SETTINGS = list_options("dinov2_tiny")


def test_a_process_of_its_own_says_nothing_else(here: Path) -> None:
    command = [sys.executable, "-m", "conversion", "convert", "tiny.pth", "-o", "mine", *SETTINGS]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The same model: mine" in done.stdout
    assert done.stdout.endswith(")\n")  # of the last line to paste


def test_no_library_has_its_say_in_pytest_s_output() -> None:
    """No warning of a module that was imported too soon, which ``python -m`` would not show; no last words."""
    command = [Path(sys.executable).with_name("pytest"), "-k", "dinov2_vits15", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (pytest.ExitCode.NO_TESTS_COLLECTED, "")
    assert "warning" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("=")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_an_answer_that_cannot_be_written_is_no_success(here: Path, unbuffered: str) -> None:
    command = [sys.executable, "-m", "conversion", "inspect", "tiny.pth", *SETTINGS]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=here, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "The answer cannot be written: No space left on device\n")
