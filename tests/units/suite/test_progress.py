"""What a terminal is shown of a long run, and a pipe is not."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from conversion.suite import progress
from conversion.suite.progress import describe_size, say
from tests.support.commands import TINY, run
from tests.support.terminal import run_in_a_terminal

# of one model's two tests, which are taken for one of each of two models
TWO_MODELS = """
import conversion.suite.progress as progress, conversion.suite.time_left as time_left
progress.find_model = time_left.find_model = lambda test: test.split("float32-")[1].split("]")[0]
"""
DONE = "eager: done in under a minute; under a minute left"


def test_sizes_are_for_people() -> None:
    assert [describe_size(size) for size in (88_300_000, 4_546_000_000)] == ["88 MB", "4.5 GB"]


def test_nobody_need_listen() -> None:
    say("anything")


def test_a_step_takes_one_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")  # on a dumb one nothing is drawn
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=terminal, force_terminal=True, width=40))
    with progress.show_steps():
        say("data2vec_vision_base_ade20k: cpu, float32, eager, sdpa: native, block.3")
        time.sleep(0.5)  # it is drawn ten times a second or so
    drawn = Text.from_ansi(terminal.getvalue()).plain
    assert "data2vec_vision_base_ade20k: cpu, fl…" in drawn
    assert "native" not in drawn


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_terminal_is_told_when_a_model_is_done(workers: tuple[str, ...], here: Path) -> None:
    shown = run_in_a_terminal(here, *TINY, *workers, plugin=TWO_MODELS)
    assert shown.count(DONE) == 1
    assert "sdpa: done" not in shown  # nothing is left then
    assert "2 passed" in shown


def test_a_pipe_is_not(here: Path) -> None:
    code, output = run(here, *TINY, plugin=TWO_MODELS)
    assert code == 0, output
    assert "done in" not in output
