"""What is changed in other libraries for a while, and put back afterwards: a context manager each."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

XFORMERS_DISABLED = "XFORMERS_DISABLED"


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


@contextmanager
def without_xformers() -> Iterator[None]:
    """Have DINOv2's own modules leave xFormers alone, whose kernels round otherwise than torch's.

    They ask for this when they are imported, and never again.
    """
    before = os.environ.get(XFORMERS_DISABLED)
    os.environ[XFORMERS_DISABLED] = "1"
    try:
        yield
    finally:
        del os.environ[XFORMERS_DISABLED]
        if before is not None:
            os.environ[XFORMERS_DISABLED] = before


@contextmanager
def without_timm_registration() -> Iterator[None]:
    """Keep models of other authors, which enter themselves under timm's names, out of timm's table of models."""
    with warnings.catch_warnings(action="ignore"):  # they import from where timm no longer wants it
        registry = importlib.import_module("timm.models.registry")
    register = registry.register_model
    registry.register_model = lambda build: build  # type: ignore[attr-defined]
    try:
        yield
    finally:
        registry.register_model = register  # type: ignore[attr-defined]
