"""What a terminal is shown of a long run, and a pipe is not."""

import io
import os
import pty
import select
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.text import Text

from conversion.suite import progress
from conversion.suite.progress import FOLDER, ROOM, StatusLine, describe_size, say
from tests.support.commands import run, start
from tests.support.golden import list_options, read_golden

SLOW_ENOUGH = """
import time, conversion.suite.cells as cells
say = cells.say
def say_slowly(step):
    say(step)
    time.sleep(1.5 if step.endswith(": embeddings") else 0)
cells.say = say_slowly
"""


@pytest.fixture
def line(tmp_path: Path) -> StatusLine:
    return StatusLine(io.StringIO(), tmp_path)


def test_sizes_are_for_people() -> None:
    assert [describe_size(size) for size in (88_300_000, 4_546_000_000)] == ["88 MB", "4.5 GB"]


def test_what_workers_say_is_shown(line: StatusLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    say("dinov2_vits14: writing 88 MB")
    (tmp_path / "another").write_text("dinov2_vitb14: native, block.3")
    line.tests = {"a", "b"}
    shown = line.render().plain
    assert shown.startswith("0 of 2 tests  ")
    assert "dinov2_vits14: writing 88 MB" in shown
    assert "dinov2_vitb14: native, block.3" in shown


def test_nobody_need_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    say("anything")


def test_a_step_takes_one_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=terminal, force_terminal=True, width=40))
    with progress.show_steps():
        say("data2vec_vision_base_ade20k: cpu, float32, eager, sdpa: native, block.3")
        time.sleep(0.5)  # it is drawn ten times a second or so
    drawn = Text.from_ansi(terminal.getvalue()).plain
    assert "data2vec_vision_base_ade20k: cpu, fl…" in drawn
    assert "native" not in drawn


def run_in_a_terminal(here: Path, *options: str, typed: bytes = b"") -> str:
    """What is shown by a run that ends well; the user has typed ahead."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    process = start(here, *options, plugin=SLOW_ENOUGH, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_terminal_is_told_variant_and_step(
    workers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    shown = run_in_a_terminal(tmp_path, "--checkpoint=tiny.pth", *list_options("dinov2_tiny"), *workers)
    assert "0 of 2 tests" in shown
    assert "dinov2_custom: cpu, float32, eager, sdpa: " in shown
    assert "2 passed" in shown


def test_a_pipe_is_not(tmp_path: Path) -> None:
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    code, output = run(tmp_path, "--checkpoint=tiny.pth", *list_options("dinov2_tiny"), plugin=SLOW_ENOUGH)
    assert code == 0, output
    assert ROOM not in output
    assert "0 of 2 tests" not in output
