"""Unpickling that runs nothing: torch's safe unpickler, with inert stand-ins for every class that is not torch's.

A pickle names what it wants built or called (its *globals*). They are listed before anything is unpickled. What is
known to run code is refused by its name, aloud; any other is not looked up either, but becomes a stand-in that keeps
what it is given and does nothing.
"""

import pickle
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # protocol 2 has Python 2's names
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch
from torch._weights_only_unpickler import _get_allowed_globals  # in public it can be asked for archives alone
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from conversion.errors import CheckpointError

INERT_MODULES = frozenset(
    {"argparse", "array", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "numbers",
     "pathlib", "random", "typing", "uuid"}
)  # fmt: skip
"""Modules of the standard library whose names carry data; of any other, what a pickle asks for is refused."""

INERT_NAMES = frozenset(
    {"_codecs.encode", "_io.BytesIO", "copyreg._reconstructor", "functools.partial", "inspect._empty",
     "logging.Logger", "logging.RootLogger", "logging.getLogger", "operator.attrgetter", "operator.itemgetter",
     "re._compile", "signal.Signals", "time.struct_time", "types.SimpleNamespace",
     *(f"builtins.{name}" for name in ("Ellipsis", "bool", "bytearray", "bytes", "complex", "dict", "float",
                                       "frozenset", "getattr", "int", "list", "object", "range", "set", "slice",
                                       "str", "tuple", "type"))}
)  # fmt: skip
"""Of the other modules, names that training runs leave in their checkpoints; exceptions are let pass besides."""

CODE = (
    "numpy.f2py.", "numpy.testing.", "numpy.distutils.", "pip.", "setuptools.", "torch._dynamo.", "torch._inductor.",
    "torch.classes.", "torch.distributed.run.", "torch.distributed.launch", "torch.distributed.elastic.", "torch.hub.",
    "torch.jit.", "torch.load", "torch.ops.", "torch.package.", "torch.serialization.", "torch.utils.cpp_extension.",
)  # fmt: skip
"""How names of other packages begin that are known to run code. Any other is let pass, and never looked up."""

MAX_TUPLES = 100
"""How deep tuples may lie in each other: the interpreter counts no levels where it hashes them, and would crash."""

MAX_CONTAINERS = 32
"""Foreign classes that may be filled like containers; for each the pickle is read once more."""

LEGACY_PICKLES = 4
"""What a file of ``torch.save`` before 1.6 begins with: a number, the protocol, the system, the content."""

PROTOCOL = 2
"""That ``torch.save`` pickles with unless told otherwise, and torch's safe unpickler reads."""

RESAVE = "Load it where it was written, and save the state dict alone: torch.save(model.state_dict(), ...)."

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


def list_foreign(file: IO[bytes], num_pickles: int) -> tuple[str, ...]:
    """What the pickles that follow each other in a file want built or called that torch's unpickler does not, by name.

    Raises:
        ValueError: there are no such pickles.
        CheckpointError: they are made to harm.
    """
    names: set[str] = set()
    for _ in range(num_pickles):
        names |= _scan(file)
    return tuple(sorted(names - _get_allowed_globals().keys()))


def _scan(file: IO[bytes]) -> set[str]:
    """The globals of a pickle, its stack worked off with nothing on it but how deep tuples lie in each other."""
    names: set[str] = set()
    stack: list[int | None] = []
    memo: dict[object, int] = {}
    for opcode, argument, _position in pickletools.genops(file):
        if opcode.name == "PROTO" and argument != PROTOCOL:
            raise CheckpointError(f"a pickle of protocol {argument}.", hint=RESAVE)
        if opcode.name == "GLOBAL":
            names.add(_modernise(str(argument).replace(" ", ".")))
        popped = _pop(stack, opcode)
        depth = max((each for each in popped if each is not None), default=0)
        if opcode.name.endswith("PUT"):
            memo[argument] = depth
        elif opcode.name.endswith("GET"):
            depth = memo.get(argument, 0)
        elif opcode.name.startswith("TUPLE") or opcode.name in ("REDUCE", "NEWOBJ"):
            depth += 1
        if depth > MAX_TUPLES:
            raise CheckpointError(
                f"a pickle of tuples that lie more than {MAX_TUPLES} deep in each other.", hint=RESAVE
            )
        stack += [None if each is pickletools.markobject else depth for each in opcode.stack_after]
    return names


def _pop(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> list[int | None]:
    """What an opcode takes off the stack: so many, or all down to the mark."""
    if pickletools.markobject in opcode.stack_before:
        mark = len(stack) - 1 - stack[::-1].index(None) if None in stack else 0
        start = mark - opcode.stack_before.index(pickletools.markobject)
    else:
        start = len(stack) - len(opcode.stack_before)
    popped = stack[max(start, 0) :]
    del stack[max(start, 0) :]
    return popped


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
            if not name or filled is None or sum(kind is not StandIn for kind in kinds.values()) > MAX_CONTAINERS:
                raise
            kinds[name] = filled


FILLED = {"Can only SETITEM": StandInMapping, "lists, but got": StandInSequence}
"""What torch's unpickler says of an object that is none of its own containers, to the stand-in that would do."""


def _first_kind(name: str) -> type:
    if name == "builtins.getattr":
        return StandInAttribute
    return StandInTensor if name in SHARDED else StandIn


def _is_inert(name: str) -> bool:
    name = _modernise(name)
    module, _, last = name.rpartition(".")
    root = module.partition(".")[0]
    if root not in sys.stdlib_module_names and root:
        return not name.startswith(CODE)
    is_exception = module == "builtins" and last.endswith(("Error", "Exception", "Warning"))
    return name in INERT_NAMES or root in INERT_MODULES or is_exception


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
