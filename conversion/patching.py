"""What is changed in other libraries for a while, and put back afterwards: a context manager each."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

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


class _SymbolicInt(type):
    """Has ``int`` keep the symbol that ``torch.export`` has for a size, and be what it was for all else."""

    def __call__(cls, value: object = 0) -> object:
        return torch.sym_int(value)

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, int)


class _Int(metaclass=_SymbolicInt):
    pass


@contextmanager
def with_symbolic_sizes(model: torch.nn.Module) -> Iterator[None]:
    """Let models of transformers be traced for images of any size.

    In places their code makes an ``int`` of a size, which fixes it to that of the example: in the modules of their
    classes ``int``, and what transformers has in its place, leave symbols alone meanwhile. At the native size they
    leave resampling out, unless ``torch.jit`` traces: else that size is one that the graph refuses.
    """
    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    changed: list[tuple[ModuleType, str, object]] = [(module, "int", _Int) for module in modules]
    changed += [(module, "torch_int", _Int) for module in modules if hasattr(module, "torch_int")]
    changed.append((torch.jit, "is_tracing", lambda: True))
    with ExitStack() as stack:
        for place, name, value in changed:
            stack.enter_context(_replaced(place, name, value))
        yield


@contextmanager
def with_interpolation(interpolate: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Have models resample with another function than torch's."""
    with _replaced(torch.nn.functional, "interpolate", interpolate):
        yield


@contextmanager
def _replaced(place: ModuleType, name: str, value: object) -> Iterator[None]:
    before = vars(place).get(name)
    setattr(place, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(place, name)
        else:
            setattr(place, name, before)
