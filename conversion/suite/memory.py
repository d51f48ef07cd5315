"""How much memory there is; what is freed is kept or given back; and garbage is collected again."""

import ctypes
import gc
import os

LARGE, KEPT_FREE = 2**26, 2**28
"""Bytes: of tensors that go back to the system when they are freed, and of what may lie free at the heap's end."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # <malloc.h>

LIBC = ctypes.CDLL(None) if os.name == "posix" else None


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensor, of whichever thread.

    Passes have a thread each and run one at a time: memory of its own for each thread would be kept as many times. What
    goes back to the system comes again page by page, zeroed, which took a fifth of the processor's time.
    """
    # of a C library that has no such thing, or takes no such size, all stays as it is
    if (mallopt := getattr(LIBC, "mallopt", None)) and mallopt(M_MMAP_THRESHOLD, LARGE):
        mallopt(M_TRIM_THRESHOLD, KEPT_FREE)
        mallopt(M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Give all that is free back to the system, where little will be needed for long."""
    if malloc_trim := getattr(LIBC, "malloc_trim", None):
        malloc_trim(0)


def resume_collection() -> None:
    """Have garbage collected again, which was not while libraries were loaded; what they hold is passed over.

    The collector would go through all that they hold again and again: a quarter of the time that loading takes.
    """
    gc.freeze()
    gc.enable()


def measure_memory() -> int | None:
    """The memory of this machine, in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
