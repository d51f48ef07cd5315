"""Pickles of protocols 4 and 5, as ``pickle.dump`` writes them, read without running anything in them.

torch's safe unpickler reads protocol 2 alone. These are worked through opcode by opcode first, like all others. Then
Python's unpickler builds them, and for every name in them it is given an inert stand-in, or plain data.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, NoReturn

import torch

from conversion.intake.budget import BUDGET, Budget
from conversion.intake.scanning import HANDLERS, MAX_NAME, NUMBER, Scanner, Value
from conversion.intake.unpickling import Foreign, StandIn, make_stand_ins, modernise, refuse_code


class NewerScanner(Scanner):
    """Works off the opcodes of protocols 4 and 5, too."""

    protocols = (2, 3, 4, 5)

    def push_named(self, text: str) -> None:
        # a text may become the name of a global
        self.stack.append(Value(weight=1 + len(text) // 16, name=text if len(text) <= MAX_NAME else ""))

    def push_bytes(self, content: bytes) -> None:
        self.stack.append(Value(weight=1 + len(content) // 16))

    def name_from_stack(self, _: object) -> None:
        module, name = self.pop_many(2)
        if not module.name or not name.name:
            raise pickle.UnpicklingError("a global whose name is not written out")
        self.name(f"{module.name} {name.name}")

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def add_items(self, _: object) -> None:
        items = self.take_marked()
        for item in items:
            self.hash(item)
        self.fill(items, self.sequences)

    def freeze(self, _: object) -> None:
        items = self.take_marked()
        for item in items:
            self.hash(item)
        self.build_tuple(items)

    def call_with_keywords(self, _: object) -> None:
        keywords = self.stack.pop()
        self.visit(1 + len(keywords.items))
        self.call(None)

    def refuse(self, _: object) -> NoReturn:
        raise pickle.UnpicklingError("an opcode that such a file does not need")


NEWER_HANDLERS: Mapping[str, Callable[[Any, Any], object]] = {
    **HANDLERS,
    "FRAME":            lambda _scanner, _size: None,
    "MEMOIZE":          NewerScanner.memoize,
    "SHORT_BINUNICODE": NewerScanner.push_named,
    "BINUNICODE":       NewerScanner.push_named,
    "BINUNICODE8":      NewerScanner.push_named,
    "SHORT_BINBYTES":   NewerScanner.push_bytes,
    "BINBYTES":         NewerScanner.push_bytes,
    "BINBYTES8":        NewerScanner.push_bytes,
    "BYTEARRAY8":       NewerScanner.push_bytes,
    "STACK_GLOBAL":     NewerScanner.name_from_stack,
    "ADDITEMS":         NewerScanner.add_items,
    "FROZENSET":        NewerScanner.freeze,
    "NEWOBJ_EX":        NewerScanner.call_with_keywords,
    "EMPTY_TUPLE":      lambda scanner, _: scanner.stack.append(NUMBER),
    **dict.fromkeys(("BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "PERSID"), NewerScanner.refuse),
}  # fmt: skip
NewerScanner.handlers = NEWER_HANDLERS


def read_pickle(file: IO[bytes], budget: Budget = BUDGET) -> tuple[Any, tuple[str, ...]]:
    """The content of a pickle, with stand-ins for all objects but plain data, and the names of what was stood in for.

    Raises:
        CheckpointError: it wants to run code, exceeds the budget, or is made to harm.
        UnpicklingError, ValueError, IndexError, KeyError, EOFError: it is no such pickle.
    """
    foreign, known = _scan(file, budget)
    refuse_code(foreign.names)
    file.seek(0)
    # classes of this reading alone, whatever a pickle sets on them
    stand_ins = {name: type(name, (kind,), {}) for name, kind in make_stand_ins(foreign).items()}
    return InertUnpickler(file, {**stand_ins, **known}).load(), foreign.names


def _scan(file: IO[bytes], budget: Budget) -> tuple[Foreign, dict[str, object]]:
    """What a pickle wants built that is no plain data, and what stands for plain data; all else is forgotten again."""
    scanner = NewerScanner(file, budget, modernise)
    scanner.scan()
    known = {name: value for name in scanner.names if (value := _find_plain(name)) is not None}
    names = tuple(sorted(scanner.names - known.keys()))
    return Foreign(names, frozenset(scanner.mappings), frozenset(scanner.sequences)), known


class InertUnpickler(pickle.Unpickler):
    """Python's unpickler, which looks up nothing: it is given what each name stands for."""

    def __init__(self, file: IO[bytes], known: Mapping[str, object]) -> None:
        super().__init__(file)
        self.known = known

    def find_class(self, module: str, name: str) -> Any:
        full = modernise(f"{module}.{name}")
        if full not in self.known:
            raise pickle.UnpicklingError(f"{full}, of which nothing is known")
        return self.known[full]


def _find_plain(name: str) -> object:
    """What stands for names of torch's that are plain data: a size, a dtype, a layout; None for any other."""
    if name == "torch.Size":
        return tuple
    if name == "torch.serialization._get_layout":
        return type(name, (StandIn,), {})
    module, _, last = name.rpartition(".")
    value = getattr(torch, last, None) if module == "torch" and last.isidentifier() else None
    return value if isinstance(value, torch.dtype) else None
