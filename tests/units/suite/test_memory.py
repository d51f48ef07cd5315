"""Freed memory is kept where it is needed again at once, and given back where it is not."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from conversion.suite.memory import LIBC

ROOT = Path(__file__).parents[3]

COUNT = """
import resource, threading, torch
import conversion.suite.subject  # where small things lie depends on what a run has loaded
from conversion.suite.memory import keep_freed_memory, return_freed_memory

def count():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    tensors = [torch.ones(2**22) for _ in range(8)]
    last = torch.ones(8)  # above them: what is free below does not go back by itself

def work_in_a_thread():
    ended = threading.Event()
    threading.Thread(target=lambda: (work(), done.set(), ended.wait()), daemon=True).start()
    done.wait()
    done.clear()

done = threading.Event()
{}
work()
before = count()
for _ in range(4):
    {}
print(count() - before)
"""
PAGES = 4 * 8 * 4 * 2**22 // mmap.PAGESIZE


def count_faults(*lines: str) -> int:
    command = [sys.executable, "-c", COUNT.format(*lines)]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(LIBC, "mallopt"), reason="freed memory is glibc's to keep")
def test_each_page_of_what_is_given_back_costs_a_fault() -> None:
    kept = count_faults("keep_freed_memory()", "work()")
    returned = count_faults("keep_freed_memory()", "work(); return_freed_memory()")
    assert kept < PAGES / 3  # the heap may still grow once
    assert returned > PAGES / 2


@pytest.mark.skipif(not hasattr(LIBC, "mallopt"), reason="freed memory is glibc's to keep")
def test_what_one_thread_has_freed_the_next_takes() -> None:
    """Threads that are still alive, as those of suspended passes are; they leave small things between."""
    assert count_faults("keep_freed_memory()", "work_in_a_thread()") < 0.8 * PAGES
