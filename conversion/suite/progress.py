"""What a long run is doing: commands say their steps in the last line of a terminal, pytest a line for each model.

Quiet where the output is not a terminal.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from conversion.suite.settings import Request
from conversion.suite.time_left import Model, estimate_left, find_model, group_tests

SPINNER = 3
"""Columns that the spinner takes: itself, a space, and the last one, which some terminals wrap at."""

LISTENERS: list[Callable[[str], None]] = []
"""Of this process; called with what it is at."""


def say(step: str) -> None:
    """Say what this process is at; where nobody listens, nothing happens."""
    for listener in LISTENERS:
        listener(step)


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


class ModelLines:
    """A plugin that says of each model that it is done, and how long the others will take.

    Attributes:
        models: that the tests verify, by name.
        workers: of pytest-xdist, by name, that are up; none without it.
    """

    def __init__(self, config: pytest.Config, request: Request) -> None:
        self.models: dict[str, Model] = {}
        self.workers: set[str] = set()
        self._config, self._request, self._has_others = config, request, False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        self.workers.add(node.gateway.id)
        self._begin(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.workers.discard(node.gateway.id)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if model := self.models.get(find_model(nodeid) or ""):
            model.running[nodeid] = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has ended, also one that its worker did not survive, which has no phase."""
        name, now = find_model(report.nodeid) or "", time.monotonic()
        if report.when in ("setup", "call") or name not in self.models:
            return
        model = self.models[name]
        model.waiting.discard(report.nodeid)
        model.spent += now - model.running.pop(report.nodeid, now)
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter and not model.waiting and (left := self.describe_left()):
            reporter.write_line(f"{name}: done in {describe_time(model.spent)}; {left}")

    def describe_left(self) -> str:
        """How long the models will still take; empty where that is not known. Of other tests nothing is foretold."""
        left = estimate_left(list(self.models.values()), max(1, len(self.workers)), time.monotonic())
        if left is None:
            return ""
        return f"{describe_time(left)} left{' of the models' if self._has_others else ''}"

    def _begin(self, tests: Sequence[str]) -> None:
        self.models = self.models or group_tests(tests, self._request)
        self._has_others = any(find_model(test) is None for test in tests)


def describe_time(seconds: float) -> str:
    """Seconds, for people."""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else "under a minute"


def show_progress(config: pytest.Config, request: Request) -> None:
    """Say of each model that it is done, if there is a terminal, and this is not one of the workers."""
    if not hasattr(config, "workerinput") and sys.stdout.isatty():
        config.pluginmanager.register(ModelLines(config, request), "parity-progress")
