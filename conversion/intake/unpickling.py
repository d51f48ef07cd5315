"""Unpickling that runs nothing: torch's safe unpickler, with inert stand-ins for every class that is not torch's.

A pickle names what it wants built or called (its *globals*). They are listed before anything is unpickled. What would
run code is refused by its name; any other becomes a stand-in that keeps what it is given and does nothing.
"""

import pickle
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # protocol 2 has Python 2's names
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch._weights_only_unpickler import _get_allowed_globals  # asked in public for archives alone
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
)

from conversion.errors import CheckpointError

INERT_MODULES = frozenset(
    {"argparse", "array", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "logging",
     "numbers", "pathlib", "random", "typing", "uuid"}
)  # fmt: skip
"""Modules of the standard library whose classes carry data; of any other, what a pickle asks for is refused."""

INERT_NAMES = frozenset(
    {"_codecs.encode", "copyreg._reconstructor", "functools.partial", "operator.attrgetter", "operator.itemgetter",
     "time.struct_time", "types.SimpleNamespace",
     *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr",
                                       "int", "list", "object", "range", "set", "slice", "str", "tuple", "type"))}
)  # fmt: skip

INERT_TORCH = ("torch.nn.", "torch.optim.", "torch.distributed.", "torch.utils.data.")
"""Packages of torch that training runs pickle functions of; of the others only classes are taken for data."""

LEGACY_PICKLES = 4
"""What a file of ``torch.save`` before 1.6 begins with: a number, the protocol, the system, the content."""

SHARDED = frozenset(
    {"torch.distributed.tensor.DTensor", "torch.distributed._tensor.api.DTensor",
     "torch.distributed._shard.sharded_tensor.api.ShardedTensor"}
)  # fmt: skip
"""Tensors of which a file holds one rank's piece."""


class StandIn:
    """In the place of an object of a foreign class: keeps arguments and state, runs nothing."""

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def __setstate__(self, state: Any) -> None:
        self.state = state


class StandInMapping:
    """In the place of a class whose objects are filled like a dictionary."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class StandInSequence:
    """In the place of a class whose objects are filled like a list."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> list[Any]:  # type: ignore[misc]
        return []


class StandInAttribute(StandIn):
    """In the place of ``getattr``, and of whatever it would get, which may be a class again."""

    def __new__(cls, *args: Any, **_kwargs: Any) -> Any:
        return cls if len(args) == 2 else object.__new__(cls)


class StandInTensor(torch.Tensor):
    """In the place of a sharded tensor: its shape is the whole tensor's, its state holds this rank's piece."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        raise CheckpointError(f"A sharded tensor has no values of its own ({func}).")

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state


def read_attribute(stand_in: object, name: str) -> Any:
    """What the object that a stand-in stands for would have had under this name; None if nothing.

    The state of a class with slots is a pair: its dictionary, and its slots.
    """
    state = getattr(stand_in, "state", None)
    parts = state if isinstance(state, tuple) else (state,)
    return next((part[name] for part in parts if isinstance(part, dict) and name in part), None)


def list_foreign(path: Path, *, is_archive: bool) -> tuple[str, ...]:
    """What the pickle in a file of ``torch.save`` wants built or called and torch's safe unpickler does not, by name.

    Raises:
        ValueError, pickle.UnpicklingError: there is no such pickle in it.
    """
    if is_archive:
        with _only_safe([]):
            return tuple(sorted(get_unsafe_globals_in_checkpoint(path)))
    with path.open("rb") as file:
        names = {name for _ in range(LEGACY_PICKLES) for name in _list_globals(file)}
    return tuple(sorted(names - _get_allowed_globals().keys()))


def _list_globals(file: IO[bytes]) -> Iterator[str]:
    for opcode, argument, _position in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield _modernise(str(argument).replace(" ", "."))


def refuse_code(names: Collection[str]) -> None:
    """Refuse a pickle that would run code if it were opened carelessly.

    Raises:
        CheckpointError: with the names of what it wants to call.
    """
    code = sorted(_modernise(name) for name in names if not _is_inert(name))
    if code:
        raise CheckpointError(
            "holds a pickle that wants to run code; nothing was run.",
            code,
            hint="Do not open it with anything else. Get the weights from a source that you trust, as safetensors.",
        )


def load_with_stand_ins(load: Callable[[], Any], foreign: Collection[str]) -> Any:
    """Unpickle with torch's safe unpickler, with a stand-in for every foreign name.

    Args:
        load: calls ``torch.load(..., weights_only=True)``. May be called several times: whether a foreign class is
            filled like a dictionary or a list shows only when it is.
    """
    kinds: dict[str, type] = {name: _first_kind(name) for name in foreign}
    while True:
        # under the repr by which an unpickling error calls it
        stand_ins = {
            name: type(name, (kind,), {"__module__": "stand_in"}) if kind in (StandIn, StandInTensor) else kind
            for name, kind in kinds.items()
        }
        try:
            with _only_safe([(stand_in, name) for name, stand_in in stand_ins.items()]):
                return load()
        except pickle.UnpicklingError as error:
            text = str(error)
            name = next((name for name, made in stand_ins.items() if kinds[name] is StandIn and repr(made) in text), "")
            filled = next((kind for sign, kind in FILLED.items() if sign in text), None)
            if not name or filled is None:
                raise
            kinds[name] = filled


FILLED = {"Can only SETITEM": StandInMapping, "lists, but got": StandInSequence}
"""What torch's unpickler says of an object that is none of its own containers, to the stand-in that would do."""


def _first_kind(name: str) -> type:
    if name == "builtins.getattr":
        return StandInAttribute
    return StandInTensor if name in SHARDED else StandIn


def _is_inert(name: str) -> bool:
    module, _, last = _modernise(name).rpartition(".")
    root = module.partition(".")[0]
    if root == "torch":
        return name.startswith(INERT_TORCH) or last[:1].isupper()
    if root in sys.stdlib_module_names or not root:
        return f"{module}.{last}" in INERT_NAMES or root in INERT_MODULES
    return True


def _modernise(name: str) -> str:
    """What Python 3's own unpickler takes a name for: ``commands.getoutput`` is ``subprocess.getoutput``."""
    module, _, last = name.rpartition(".")
    module, last = NAME_MAPPING.get((module, last), (IMPORT_MAPPING.get(module, module), last))
    return f"{module}.{last}"


@contextmanager
def _only_safe(stand_ins: list[tuple[type, str]]) -> Iterator[None]:
    """Let torch's unpickler build these and its own, and nothing that a library registered meanwhile."""
    before = get_safe_globals()
    clear_safe_globals()
    add_safe_globals(stand_ins)  # type: ignore[arg-type]
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)
