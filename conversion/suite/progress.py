"""What a long run is doing, in the line below pytest's own: tests, time left, and what each worker is at.

Quiet where the output is not a terminal. Workers of this host leave what they are at in a
file each, whose folder they inherit by name; those of other hosts are not heard.
"""

import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console
from rich.text import Text

from conversion.suite.extent import choose_row
from conversion.suite.settings import Request
from conversion.suite.work import estimate_work

FOLDER = "PARITY_PROGRESS"
"""The environment variable that names the folder."""

INTERVAL = 0.5
"""Seconds between two looks at what the workers say."""

# of a terminal: go down a line, scrolling if need be, and up again; then draw there, and come back to where pytest is
ROOM, SAVE, BELOW, BACK = "\x1bD\x1b[1A", "\x1b7", "\x1b[1B\r\x1b[2K", "\x1b8"


def say(step: str) -> None:
    """Say what this process is at; where nobody listens, nothing happens."""
    if folder := os.environ.get(FOLDER):
        Path(folder, str(os.getpid())).write_text(step, encoding="utf-8")


def silence_loading() -> None:
    """Have transformers draw no bars and warn of nothing: what it misses on loading is checked, and said, here."""
    import transformers  # here, since it takes longer to import than a help text may

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def describe_size(size: int) -> str:
    """Bytes, for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


class StatusLine:
    """The line, and what it is made of.

    Attributes:
        work: test to the share of the run that it is estimated to be.
    """

    def __init__(self, terminal: IO[str], folder: Path) -> None:
        self.work: dict[str, float] = {}
        self.done: set[str] = set()
        self._terminal, self._folder = terminal, folder
        self._console = Console(file=terminal, force_terminal=True)
        self._started, self._lock, self._stop = time.monotonic(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self, work: dict[str, float]) -> None:
        """Begin, with the tests that are to be run and the share of each."""
        self.work = work
        if not self._thread.is_alive():
            self._thread.start()

    def clear(self) -> None:
        """Take the line away, before pytest writes."""
        with self._lock:
            self._write(SAVE + BELOW + BACK)

    def close(self) -> None:
        """Take it away for good."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self.clear()

    def render(self) -> Text:
        """Tests, time left, and what each process is at."""
        left = self.estimate_left()
        parts = [Text(f"{len(self.done)} of {len(self.work)} tests", style="bold")]
        parts += (
            [Text(f"{left / 60:.0f} min left" if left >= 60 else "under a minute left")] if left is not None else []
        )
        steps = [path.read_text(encoding="utf-8") for path in sorted(self._folder.iterdir())]
        return Text("  ").join([*parts, *(Text(step, style="cyan") for step in steps if step)])

    def estimate_left(self) -> float | None:
        """Seconds, if the rest takes as long as what was done did; None while nothing is done."""
        done = sum(self.work.get(test, 0.0) for test in self.done)
        total = sum(self.work.values())
        return (time.monotonic() - self._started) * (total - done) / done if done else None

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            text = self.render()
            text.truncate(self._console.width - 1, overflow="ellipsis")
            with self._console.capture() as captured:
                self._console.print(text, end="")
            with self._lock:
                self._write(ROOM + SAVE + BELOW + captured.get() + BACK)

    def _write(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()


def estimate_share(test: str, request: Request) -> float:
    """What a test takes beside others, by the variant in its name; one without takes next to nothing."""
    found = re.search(r"test_parity\[(\w+)-", test)
    return 1 + (estimate_work(choose_row(found[1], request)) / 1e9 if found else 0)


def show_progress(config: pytest.Config, request: Request) -> None:
    """Show the line for the rest of the run, if there is a terminal, and this is not one of its workers."""
    if hasattr(config, "workerinput") or not sys.stdout.isatty() or config.option.collectonly:
        return
    folder = Path(tempfile.mkdtemp(prefix="parity-progress-"))
    os.environ[FOLDER] = str(folder)
    terminal = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")  # before pytest captures it
    config.pluginmanager.register(_Hooks(StatusLine(terminal, folder), request), "parity-progress")

    def clean_up() -> None:
        os.environ.pop(FOLDER, None)
        shutil.rmtree(folder)
        terminal.close()

    config.add_cleanup(clean_up)


class _Hooks:
    def __init__(self, line: StatusLine, request: Request) -> None:
        self.line, self.request = line, request

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._start([item.nodeid for item in session.items])

    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._start(ids)

    def _start(self, tests: Sequence[str]) -> None:
        self.line.start({test: estimate_share(test, self.request) for test in tests})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self.line.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.line.clear()
        if report.when == "teardown":
            self.line.done.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.line.close()
