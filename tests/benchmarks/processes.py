"""A job in a process of its own, which has imported everything before it starts; its memory is watched from outside."""

import multiprocessing
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

INTERVAL = 0.005
"""Seconds between two looks at the memory."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.benchmarks.jobs"])

ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


@dataclass(frozen=True)
class Usage:
    """Anonymous memory in MB, pages of mapped files left out: at the most, over what the imports take."""

    peak: float


def run(job: Callable[..., None], *args: Any) -> Usage:
    """Run a job to its end. Linux only."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(theirs, job, args))
    process.start()
    baseline = ours.recv()
    peak, stop = [baseline], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, stop))
    watcher.start()
    process.join()
    stop.set()
    watcher.join()
    if process.exitcode:
        raise RuntimeError(f"{job.__name__} ended with {process.exitcode}")
    return Usage(peak[0] - baseline)


def read_anonymous(pid: int | str = "self") -> float:
    """Anonymous memory that a process has in RAM, in MB; 0 of one that has ended."""
    try:
        found = ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _watch(pid: int, peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(INTERVAL):
        peak[0] = max(peak[0], read_anonymous(pid))


def _run(connection: Connection, job: Callable[..., None], args: tuple[Any, ...]) -> None:
    connection.send(read_anonymous())
    job(*args)
