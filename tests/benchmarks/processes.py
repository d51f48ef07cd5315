"""Jobs and commands in processes of their own, whose memory is watched from outside. Linux only.

A job finds everything imported when it starts; a command does not.
"""

import multiprocessing
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    """Anonymous memory in MB, pages of mapped files left out: at the most; of a job, over what the imports take."""

    peak: float


def run(job: Callable[..., None], *args: Any) -> Usage:
    """Run a job to its end."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(theirs, job, args))
    process.start()
    baseline = ours.recv()
    with _watch(lambda: read_anonymous(process.pid or 0), baseline) as peak:
        process.join()
    if process.exitcode:
        raise RuntimeError(f"{job.__name__} ended with {process.exitcode}")
    return Usage(peak[0] - baseline)


def run_command(arguments: Sequence[str | Path], folder: Path, status: int = 0) -> Usage:
    """Run a command to its end, with all the processes that it starts.

    Args:
        folder: to run it in.
        status: that it is to end with.
    """
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(arguments, cwd=folder, start_new_session=True, **quiet)
    with _watch(lambda: sum(map(read_anonymous, list_session(process.pid))), 0.0) as peak:
        output, _ = process.communicate()
    if process.returncode != status:
        raise RuntimeError(f"{arguments} ended with {process.returncode}:\n{output}")
    return Usage(peak[0])


def list_session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == leader:
                found.append(int(path.name))
        except ProcessLookupError:  # it has ended
            continue
    return found


def read_anonymous(pid: int | str = "self") -> float:
    """Anonymous memory that a process has in RAM, in MB; 0 of one that has ended."""
    try:
        found = ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / 1e6 if found else 0.0


@contextmanager
def _watch(read: Callable[[], float], baseline: float) -> Iterator[list[float]]:
    """Give a list of one number, the most that was read so far."""
    peak, stop = [baseline], threading.Event()

    def watch() -> None:
        while not stop.wait(INTERVAL):
            peak[0] = max(peak[0], read())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _run(connection: Connection, job: Callable[..., None], args: tuple[Any, ...]) -> None:
    connection.send(read_anonymous())
    job(*args)
