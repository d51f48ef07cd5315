"""What a pickle would do, worked out without doing it, and held against a budget.

The opcodes are read one by one before anything is built. In the place of each value stands what it would cost to hash,
and what lies in it. So a pickle that would fill the memory or run for hours is refused while it is read.
"""

import pickle
import pickletools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO, Any, ClassVar, cast

from conversion.errors import CheckpointError
from conversion.intake.budget import RESAVE, Budget, explain_excess

PROTOCOL = 2
"""That ``torch.save`` pickles with unless told otherwise, and torch's safe unpickler reads."""


BETWEEN_CLOCKS = 2**14
"""Opcodes from one look at the clock to the next."""

LATIN1 = ("latin1", "latin-1")
FILLING = frozenset({"_codecs.encode", "builtins.bytearray"})
"""Functions that torch's unpickler calls and that can be made to fill the memory.

A pickle calls them with a text and latin-1, with such bytes, or with nothing. Any other use is refused.
"""
HASHING = frozenset({"builtins.set", "collections.Counter", "collections.OrderedDict"})
"""Functions that torch's unpickler calls and that hash what lies in their arguments."""

CALLER = "torch._tensor._rebuild_from_type_v2"
"""A function that torch's unpickler calls and that calls its first argument, as ``_rebuild_tensor_v2``."""

MAX_NAME = 1_000
"""Bytes of the module or the name of a global."""

MAX_LEVELS = 4
"""How deep a function looks into what it is given: arguments, a list, a pair in it, its key."""


class Value:
    """What stands in the place of a value.

    Attributes:
        items: that lie in it: a list of a container or object, which may be filled, a tuple of a tuple.
        depth: of tuples and objects in it.
        weight: values visited when it is hashed.
        nesting: of tuples, objects and containers in it.
        name: of a global; of a text, if that is a codec's name.
        maker: of an object, the global that makes it.
    """

    __slots__ = ("depth", "items", "maker", "name", "nesting", "weight")
    depth: int
    nesting: int
    weight: int

    def __init__(self, items: Sequence["Value"] = (), weight: int = 1, name: str = "", maker: str = "") -> None:
        depth = nesting = 0
        for item in items:
            depth, nesting = max(depth, item.depth), max(nesting, item.nesting)
            weight += item.weight
        is_atom = not items and isinstance(items, tuple)
        self.depth, self.nesting, self.weight = depth + bool(items), nesting + (not is_atom), weight
        self.items, self.name, self.maker = items, name, maker


NUMBER, TEXT = Value(), Value()
CODECS = {name: Value(name=name) for name in LATIN1}


class Scanner:
    """Works off the opcodes of the pickles of one file.

    Attributes:
        names: of all globals.
        mappings: globals whose objects are filled like dictionaries.
        sequences: globals whose objects are filled like lists.
        protocols: of pickles that are read.
        handlers: what each opcode does; others push a value, or are refused.
    """

    protocols: ClassVar[Collection[int]] = (PROTOCOL,)
    handlers: ClassVar[Mapping[str, Callable[[Any, Any], object]]]

    def __init__(self, file: IO[bytes], budget: Budget, modernise: Callable[[str], str] = str) -> None:
        self.file, self.budget, self.modernise = file, budget, modernise
        self.names: set[str] = set()
        self.mappings: set[str] = set()
        self.sequences: set[str] = set()
        self.size = self.opcodes = self.large = self.steps = self.tuple_keys = 0
        self.ends = time.monotonic() + budget.seconds

    def scan(self) -> None:
        """Work off one pickle; the file is left at its end.

        Raises:
            CheckpointError: it exceeds the budget, or is made to harm.
            UnpicklingError: it has opcodes that torch's unpickler does not know.
            ValueError, IndexError, KeyError: it is no pickle.
        """
        self.stack: list[Value] = []
        self.marked: list[list[Value]] = []
        self.memo: dict[object, Value] = {}
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", self)):
            self.opcodes += 1
            if self.opcodes > self.budget.opcodes:
                raise explain_excess("opcodes", self.budget.opcodes)
            if self.opcodes % BETWEEN_CLOCKS == 0 and time.monotonic() > self.ends:
                raise explain_excess("seconds", self.budget.seconds, f"{self.opcodes:,} opcodes were read until then")
            handler = self.handlers.get(opcode.name)
            if handler is not None:
                handler(self, argument)
            elif not opcode.stack_before and len(opcode.stack_after) == 1:
                self.stack.append(NUMBER)  # None, a truth value, a small number
            elif opcode.name != "STOP":
                raise pickle.UnpicklingError(f"Unsupported opcode {opcode.name}")

    # what genops reads the file through

    def read(self, count: int) -> bytes:
        if count > self.budget.argument:
            raise explain_excess("bytes of one text or number", self.budget.argument, f"one of {count:,} bytes")
        self.size += count
        if self.size > self.budget.size:
            raise explain_excess("bytes", self.budget.size)
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(MAX_NAME + 1)
        if len(line) > MAX_NAME:
            raise explain_excess("bytes of one name", MAX_NAME, f"{line[:40]!r}...")
        self.size += len(line)
        return line

    # one opcode each

    def start(self, protocol: int) -> None:
        if protocol not in self.protocols:
            raise explain_protocol(protocol)

    def name(self, argument: str) -> None:
        name = self.modernise(argument.replace(" ", "."))
        self.names.add(name)
        if len(self.names) > self.budget.globals:
            raise explain_excess("different globals", self.budget.globals)
        self.stack.append(Value(name=name))

    def push_text(self, text: str) -> None:
        self.stack.append(CODECS.get(text, TEXT) if len(text) < 64 else Value(weight=1 + len(text) // 16))

    def push_large(self, number: int) -> None:
        self.large += number.bit_length() > 60
        if self.large > self.budget.large:
            raise explain_excess("whole numbers of more than 60 bits", self.budget.large)
        self.stack.append(NUMBER)

    def open_container(self, _: object) -> None:
        self.stack.append(Value(items=[]))

    def mark(self, _: object) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def take_marked(self) -> list[Value]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def build_tuple(self, items: Sequence[Value]) -> Value:
        value = Value(tuple(items))
        if value.depth > self.budget.tuples:
            headline = f"a pickle of tuples that lie more than {self.budget.tuples} deep in each other."
            raise CheckpointError(headline, hint=RESAVE)
        value.weight = min(value.weight, self.budget.steps + 1)
        self.stack.append(value)
        return value

    def append(self, items: Sequence[Value]) -> None:
        self.fill(items, self.sequences)

    def set_items(self, items: Sequence[Value]) -> None:
        for key in items[::2]:
            self.hash(key)
        self.fill(items, self.mappings)

    def fill(self, items: Sequence[Value], makers: set[str]) -> None:
        target = self.stack[-1]
        if not isinstance(target.items, list):
            raise pickle.UnpicklingError("Can only fill lists and dictionaries")
        target.items += items
        target.nesting = max(target.nesting, 1 + max([item.nesting for item in items], default=0))
        if target.nesting > self.budget.nesting:
            headline = f"containers more than {self.budget.nesting} deep in each other, which are not a state dict."
            raise CheckpointError(headline, hint=RESAVE)
        if target.maker:
            makers.add(target.maker)

    def hash(self, key: Value) -> None:
        self.visit(key.weight)
        if key.depth:
            # tuples can be made to have the same hash; each is then compared with all others
            self.tuple_keys += 1
            self.visit(self.tuple_keys // 16)

    def visit(self, count: int) -> None:
        self.steps += count
        if self.steps > self.budget.steps:
            found = "keys or arguments that hold the same values again and again"
            raise explain_excess("steps of hashing and calling", self.budget.steps, found)

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.visit(1 + len(self.names) // 8 + arguments.weight + sum(len(each.items) for each in arguments.items))
        if function.name in FILLING:
            check_bytes(function.name, arguments.items)
        elif function.name in HASHING:
            self.visit_all(arguments.items, MAX_LEVELS)
        elif function.name == CALLER and arguments.items and arguments.items[0].name in (CALLER, *FILLING, *HASHING):
            headline = f"has {arguments.items[0].name} called for a tensor, which it does not make."
            raise CheckpointError(headline, hint=RESAVE)
        made = self.build_tuple([arguments])
        made.items, made.maker = [], function.name

    def visit_all(self, values: Sequence[Value], levels: int) -> None:
        """Visit what a function does that hashes what lies in its arguments, however often the same lies there."""
        for each in values:
            self.hash(each)
            if levels and each.items:
                self.visit_all(each.items, levels - 1)

    def build(self, _: object) -> None:
        state = self.stack.pop()
        self.visit(1 + len(state.items))

    def put(self, key: object) -> None:
        self.memo[key] = self.stack[-1]

    def get(self, key: object) -> None:
        self.stack.append(self.memo[key])

    def pop_many(self, count: int) -> list[Value]:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("a stack with too few values")
        del self.stack[-count:]
        return items


def check_bytes(name: str, arguments: Sequence[Value]) -> None:
    """Refuse a call that makes bytes of anything else than a text."""
    is_text = len(arguments) == 2 and arguments[0] is not NUMBER and arguments[1].name in LATIN1
    is_bytes = len(arguments) == 1 and arguments[0].maker == "_codecs.encode"
    if arguments and not is_text and not is_bytes:
        headline = f"calls {name} otherwise than for bytes, which may fill the memory."
        raise CheckpointError(headline, hint=RESAVE)


def explain_protocol(protocol: int) -> CheckpointError:
    """What to say of a checkpoint that was pickled in a protocol that torch's safe unpickler does not read."""
    headline = f"pickled with protocol {protocol}; torch's safe unpickler reads protocol {PROTOCOL}, torch.save's own."
    return CheckpointError(headline, hint=f"{RESAVE[:-1]} without pickle_protocol.")


HANDLERS: dict[str, Callable[[Scanner, Any], object]] = {
    "PROTO":           Scanner.start,
    "GLOBAL":          Scanner.name,
    "BINUNICODE":      Scanner.push_text,
    "SHORT_BINSTRING": Scanner.push_text,
    "BINSTRING":       Scanner.push_text,
    "LONG1":           Scanner.push_large,
    "LONG4":           Scanner.push_large,
    "MARK":            Scanner.mark,
    "EMPTY_TUPLE":     lambda scanner, _: scanner.stack.append(NUMBER),
    "EMPTY_LIST":      Scanner.open_container,
    "EMPTY_DICT":      Scanner.open_container,
    "EMPTY_SET":       Scanner.open_container,
    "TUPLE":           lambda scanner, _: scanner.build_tuple(scanner.take_marked()),
    "TUPLE1":          lambda scanner, _: scanner.build_tuple(scanner.pop_many(1)),
    "TUPLE2":          lambda scanner, _: scanner.build_tuple(scanner.pop_many(2)),
    "TUPLE3":          lambda scanner, _: scanner.build_tuple(scanner.pop_many(3)),
    "APPEND":          lambda scanner, _: scanner.append(scanner.pop_many(1)),
    "APPENDS":         lambda scanner, _: scanner.append(scanner.take_marked()),
    "SETITEM":         lambda scanner, _: scanner.set_items(scanner.pop_many(2)),
    "SETITEMS":        lambda scanner, _: scanner.set_items(scanner.take_marked()),
    "REDUCE":          Scanner.call,
    "NEWOBJ":          Scanner.call,
    "BUILD":           Scanner.build,
    "BINPERSID":       lambda scanner, _: scanner.build_tuple(scanner.pop_many(1)),
    "BINPUT":          Scanner.put,
    "LONG_BINPUT":     Scanner.put,
    "BINGET":          Scanner.get,
    "LONG_BINGET":     Scanner.get,
    "POP":             lambda scanner, _: scanner.pop_many(1),
    "POP_MARK":        lambda scanner, _: scanner.take_marked(),
    "DUP":             lambda scanner, _: scanner.stack.append(scanner.stack[-1]),
}  # fmt: skip
Scanner.handlers = HANDLERS
