"""What a long run is doing, in the line below pytest's own: tests, time left, and what each worker is at.

Quiet where the output is not a terminal. Workers of this host leave what they are at in a
file each, whose folder they inherit by name; those of other hosts are not heard.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console
from rich.text import Text

from conversion.suite.settings import Request
from conversion.suite.time_left import Model, estimate_left, find_model, group_tests

FOLDER = "PARITY_PROGRESS"
"""The environment variable that names the folder."""

INTERVAL = 0.5
"""Seconds between two looks at what the workers say."""

# of a terminal: go down a line, scrolling if need be, and up again; then draw there, and come back to where pytest is
ROOM, SAVE, BELOW, BACK = "\x1bD\x1b[1A", "\x1b7", "\x1b[1B\r\x1b[2K", "\x1b8"


SPINNER = 3
"""Columns that the spinner takes: itself, a space, and the last one, which some terminals wrap at."""

LISTENERS: list[Callable[[str], None]] = []
"""Of this process; called with what it is at."""


def say(step: str) -> None:
    """Say what this process is at; where nobody listens, nothing happens."""
    for listener in LISTENERS:
        listener(step)
    if folder := os.environ.get(FOLDER):
        Path(folder, str(os.getpid())).write_text(step, encoding="utf-8")


@contextmanager
def show_steps() -> Iterator[None]:
    """Show what this process is at in the last line of a terminal; nothing where the error stream is none."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status("") as status:

        def show(step: str) -> None:
            text = Text(step)
            text.truncate(console.width - SPINNER, overflow="ellipsis")  # rich wraps what stands beside a spinner
            status.update(text)

        LISTENERS.append(show)
        try:
            yield
        finally:
            LISTENERS.remove(show)


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
        tests: that are to be run.
        models: that they verify.
        workers: of pytest-xdist, by name, that are up; none without it.
    """

    def __init__(self, terminal: IO[str], folder: Path) -> None:
        self.tests: set[str] = set()
        self.done: set[str] = set()
        self.models: dict[str, Model] = {}
        self.workers: set[str] = set()
        self._has_others = False
        self._terminal, self._folder = terminal, folder
        self._console = Console(file=terminal, force_terminal=True)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self, tests: Sequence[str], request: Request) -> None:
        """Begin, with the tests that are to be run; what was begun already goes on."""
        if not self.tests:
            self.tests, self.models = set(tests), group_tests(tests, request)
            self._has_others = any(find_model(test) is None for test in tests)
        if not self._thread.is_alive():
            self._thread.start()

    def begin_test(self, test: str) -> None:
        """Note that a test begins."""
        if model := self.models.get(find_model(test) or ""):
            with self._lock:
                model.running[test] = time.monotonic()

    def end_test(self, test: str) -> None:
        """Note that a test has ended, also one that its worker did not survive."""
        self.done.add(test)
        if model := self.models.get(find_model(test) or ""):
            now = time.monotonic()
            with self._lock:
                model.waiting.discard(test)
                model.spent += now - model.running.pop(test, now)

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
        parts = [Text(f"{len(self.done)} of {len(self.tests)} tests", style="bold")]
        if left := self.describe_left():
            parts.append(Text(left))
        steps = [path.read_text(encoding="utf-8") for path in sorted(self._folder.iterdir())]
        return Text("  ").join([*parts, *(Text(step, style="cyan") for step in steps if step)])

    def describe_left(self) -> str:
        """How long the models will still take; empty where that is not known. Of other tests nothing is foretold."""
        with self._lock:
            left = estimate_left(list(self.models.values()), max(1, len(self.workers)), time.monotonic())
        if left is None:
            return ""
        said = f"{left / 60:.0f} min left" if left >= 60 else "under a minute left"
        return f"{said} of the models" if self._has_others else said

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
            self.line.start([item.nodeid for item in session.items], self.request)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        self.line.workers.add(node.gateway.id)
        self.line.start(ids, self.request)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.line.workers.discard(node.gateway.id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.line.clear()
        self.line.begin_test(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.line.clear()
        if report.when not in ("setup", "call"):  # nor is there a phase where a worker has crashed
            self.line.end_test(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.line.close()
