"""What is changed in other libraries for a while, and put back afterwards: a context manager each."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def only_safe_globals(stand_ins: list[tuple[type, str]]) -> Iterator[None]:
    """Let torch's unpickler build these and its own, and nothing that a library registered meanwhile."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(stand_ins)  # type: ignore[arg-type]
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@contextmanager
def without_checksums() -> Iterator[None]:
    """Have ``torch.save`` leave out an archive's checksums: they take as long as all the rest, and torch reads none."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
