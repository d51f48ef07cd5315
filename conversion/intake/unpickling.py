"""Unpickling that runs nothing: torch's safe unpickler, with inert stand-ins for every class that is not torch's.

A pickle names what it wants built or called (its *globals*). They are listed before anything is unpickled. What is
known to run code is refused by its name, aloud; any other is not looked up either, but becomes a stand-in that keeps
what it is given and does nothing.
"""

import builtins
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # protocol 2 has Python 2's names
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch._weights_only_unpickler import _get_allowed_globals  # in public it can be asked for archives alone

from conversion.errors import CheckpointError
from conversion.intake.budget import BUDGET, Budget
from conversion.intake.scanning import Scanner
from conversion.patching import only_safe_globals

INERT_MODULES = frozenset(
    {"argparse", "array", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "numbers",
     "pathlib", "random", "typing", "uuid"}
)  # fmt: skip
"""Modules of the standard library whose names carry data; of any other, what a pickle asks for is refused."""

INERT_NAMES = frozenset(
    {"_codecs.encode", "_io.BytesIO", "copyreg._reconstructor", "functools.partial", "inspect._empty",
     "logging.Logger", "logging.RootLogger", "logging.getLogger", "operator.attrgetter", "operator.itemgetter",
     "platform.uname_result", "re._compile", "signal.Signals", "time.struct_time", "types.SimpleNamespace",
     *(f"builtins.{name}" for name in ("Ellipsis", "bool", "bytearray", "bytes", "complex", "dict", "float",
                                       "frozenset", "getattr", "int", "list", "object", "range", "set", "slice",
                                       "str", "tuple", "type"))}
)  # fmt: skip
"""Of the other modules, names that training runs leave in their checkpoints."""

EXCEPTIONS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
"""Of ``builtins``, names that are let pass besides: a run may keep what it failed with."""

CODE = (
    "numpy.f2py.", "numpy.testing.", "numpy.distutils.", "pip.", "setuptools.", "torch._dynamo.", "torch._inductor.",
    "torch.classes.", "torch.distributed.run.", "torch.distributed.launch", "torch.distributed.elastic.", "torch.hub.",
    "torch.jit.", "torch.load", "torch.ops.", "torch.package.", "torch.serialization.", "torch.utils.cpp_extension.",
)  # fmt: skip
"""How names of other packages begin that are known to run code. Any other is let pass, and never looked up."""

LEGACY_PICKLES = 5
"""What a file of ``torch.save`` before 1.6 begins with: a number, the protocol, the system, the content, and the names
of its storages."""

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


@dataclass(frozen=True)
class Foreign:
    """What pickles want built or called that torch's unpickler does not build.

    Attributes:
        names: in full, as Python 3 has them.
        mappings, sequences: those whose objects are filled like dictionaries, or like lists.
    """

    names: tuple[str, ...] = ()
    mappings: frozenset[str] = frozenset()
    sequences: frozenset[str] = frozenset()


def list_foreign(file: IO[bytes], num_pickles: int, budget: Budget = BUDGET) -> Foreign:
    """What the pickles that follow each other in a file want built or called that torch's unpickler does not, by name.

    Raises:
        CheckpointError: they exceed the budget, or are made to harm.
        UnpicklingError: they are not for torch's unpickler.
        ValueError, IndexError, KeyError: there are no such pickles.
    """
    scanner = Scanner(file, budget, modernise)
    for _ in range(num_pickles):
        scanner.scan()
    names = tuple(sorted(scanner.names - _get_allowed_globals().keys()))
    return Foreign(names, frozenset(scanner.mappings), frozenset(scanner.sequences))


def refuse_code(names: Collection[str]) -> None:
    """Refuse a pickle that would run code if it were opened carelessly.

    Raises:
        CheckpointError: with the names of what it wants to call.
    """
    code = sorted(modernise(name) for name in names if not _is_inert(name))
    if code:
        raise CheckpointError(
            "its pickle refers to callables that could run code; none was called.",
            code,
            hint="Do not load it with anything else. Ask its author for the weights alone, as safetensors.",
        )


def load_with_stand_ins(load: Callable[[], Any], foreign: Foreign) -> Any:
    """Unpickle with torch's safe unpickler, with a stand-in for every foreign name.

    Args:
        load: calls ``torch.load(..., weights_only=True)``.
    """
    with only_safe_globals([(stand_in, name) for name, stand_in in make_stand_ins(foreign).items()]):
        return load()


def make_stand_ins(foreign: Foreign) -> dict[str, type]:
    """A stand-in for every foreign name: a class of its own, so that what was left out can be told by its name."""
    kinds = {name: _choose_kind(name, foreign) for name in foreign.names}
    stand_ins = {
        name: type(name, (kind,), {"__module__": "stand_in"}) if kind in (StandIn, StandInTensor) else kind
        for name, kind in kinds.items()
    }
    # torch's unpickler does not know what Python 3 calls Python 2's exceptions
    written = {".".join(name): ".".join(modern) for name, modern in NAME_MAPPING.items() if name[0] == "exceptions"}
    return stand_ins | {name: stand_ins[modern] for name, modern in written.items() if modern in stand_ins}


def _choose_kind(name: str, foreign: Foreign) -> type:
    if name == "builtins.getattr":
        return StandInAttribute
    if name in SHARDED:
        return StandInTensor
    if name in foreign.mappings:
        return StandInMapping
    return StandInSequence if name in foreign.sequences else StandIn


def _is_inert(name: str) -> bool:
    name = modernise(name)
    module, _, last = name.rpartition(".")
    root = module.partition(".")[0]
    if root not in sys.stdlib_module_names and root:
        return not name.startswith(CODE)
    return name in INERT_NAMES or root in INERT_MODULES or (module == "builtins" and last in EXCEPTIONS)


def modernise(name: str) -> str:
    """What Python 3's own unpickler takes a name for: ``commands.getoutput`` is ``subprocess.getoutput``."""
    module, _, last = name.rpartition(".")
    module, last = NAME_MAPPING.get((module, last), (IMPORT_MAPPING.get(module, module), last))
    return f"{module}.{last}"
