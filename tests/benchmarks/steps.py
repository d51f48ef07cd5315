"""Where the time of a command goes, step by step: ``python -m tests.benchmarks.steps RECORD convert FILE -o DIR``.

The command runs in this process, with its functions timed from outside. What it hashes runs beside it, in threads of
their own. So do the passes of the models, one at a time, but for them the main thread waits: its clock tells all.
"""

import gc
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIBRARIES = "torch, torchvision and transformers imported"
OTHERS = "everything else imported"
FILE = "file read, converted, written, checked"
MODELS = "models loaded, inputs drawn"
PASSES = "passes of both models"
YARDSTICK = "passes of the original in float64"
LOCAL = "stages run by themselves"
COMPARED = "compared"
CARD = "card, published"
REST = "all else, until Python has ended"

STEPS = (LIBRARIES, OTHERS, FILE, MODELS, PASSES, YARDSTICK, LOCAL, COMPARED, CARD, REST)
"""In the order of the table."""

WHOLE = (LIBRARIES, YARDSTICK)
"""Steps that no other is taken out of."""

FUNCTIONS = {
    "conversion.cli.convert:read_variants": FILE,
    "conversion.suite.subject:Subject.convert": FILE,
    "conversion.artifact.stage:_write": FILE,
    "conversion.artifact.stage:check_files": FILE,
    "conversion.artifact.stage:load_model": MODELS,
    "conversion.suite.cells:_load": MODELS,
    "conversion.suite.cells:_prepare": MODELS,
    "conversion.parity.capture:ForwardPass.read": PASSES,
    "conversion.parity.compare:Comparison._read_precise": YARDSTICK,
    "conversion.parity.compare:run_locally": LOCAL,
    "conversion.parity.compare:judge": COMPARED,
    "conversion.cli.convert:build_outcome": CARD,
    "conversion.artifact.stage:StagedArtifact.publish": CARD,
}
"""Function to its step, which other steps within it are taken out of."""


@dataclass
class Clock:
    """Time by steps, of which one is on at a time.

    Attributes:
        spent: step to seconds, and to seconds of the processor, of all threads.
    """

    step: str = REST
    since: tuple[float, float] = (0.0, 0.0)
    spent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))

    def go_to(self, step: str) -> None:
        """End the step that is on, and begin another."""
        now, spent = (time.perf_counter(), time.process_time()), self.spent[self.step]
        spent[:] = [total + end - begin for total, end, begin in zip(spent, now, self.since, strict=True)]
        self.step, self.since = step, now

    def measure(self, step: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, as this step, unless the one that is on is whole, or another thread calls."""
        before = self.step
        if before in WHOLE or threading.current_thread() is not threading.main_thread():
            return call(*args, **kwargs)
        self.go_to(step)
        try:
            return call(*args, **kwargs)
        finally:
            self.go_to(before)


def measure_imports(clock: Clock) -> None:
    """Take the time of every import from now on."""
    bootstrap: Any = importlib._bootstrap
    find = bootstrap._find_and_load

    def find_and_load(name: str, import_: object) -> object:
        is_library = name.partition(".")[0] in ("torch", "torchvision", "transformers")
        return clock.measure(LIBRARIES if is_library else OTHERS, find, name, import_)

    bootstrap._find_and_load = find_and_load


def measure_functions(clock: Clock) -> None:
    """Take the time of the functions of each step."""
    for place, step in FUNCTIONS.items():
        module, _, path = place.partition(":")
        owner, _, name = path.rpartition(".")
        holder = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        setattr(holder, name, _wrap(clock, step, getattr(holder, name)))


def _wrap(clock: Clock, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: clock.measure(step, call, *args, **kwargs)


def main() -> None:
    """Run the command, write the record, and end at once, as the command itself does."""
    record, *command = sys.argv[1:]
    clock = Clock(since=(time.perf_counter(), 0.0))
    measure_imports(clock)
    gc.disable()  # as the command does while libraries load
    app = importlib.import_module("conversion.cli.app")
    importlib.import_module("conversion.cli.convert")
    measure_functions(clock)
    status = app.main(command)
    clock.go_to(REST)
    Path(record).write_text(json.dumps(clock.spent), encoding="utf-8")
    os._exit(status)


if __name__ == "__main__":
    main()
