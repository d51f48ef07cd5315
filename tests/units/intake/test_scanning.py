"""The budget of the opener: what exceeds it is refused before anything is built; what training writes is far below."""

import array
import collections
import datetime
import io
import os
import pickle
import platform
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.errors import CheckpointError
from conversion.intake import scanning
from conversion.intake.budget import BUDGET, Budget
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.newer_pickle import InertUnpickler, read_pickle
from conversion.intake.opening import open_file
from conversion.intake.scanning import Scanner
from conversion.intake.unpickling import list_foreign
from tests.support.checkpoint_files import same, save, steps
from tests.support.corpus.hostile import PICKLES, SHOWN_TWICE, START, STOP
from tests.support.corpus.making import records_of, saved
from tests.support.golden import tiny

HARMLESS = {"lists that share themselves", "a key of a million letters"}
"""What is built, and refused for what it is."""


class Named:
    """Pickled as a call with keywords."""

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, int]]:
        return ("a",), {"size": 3}


def scan(content: object, budget: Budget = BUDGET) -> Scanner:
    """The scan of what ``torch.save`` writes of it."""
    scanner = Scanner(io.BytesIO(records_of(saved(content))["archive/data.pkl"]), budget)
    scanner.scan()
    return scanner


@pytest.mark.parametrize("name", [*sorted(PICKLES.keys() - HARMLESS), *SHOWN_TWICE])
def test_it_is_refused_before_anything_is_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object, **__: object) -> None:
        pytest.fail("it was given to torch")

    made: list[Scanner] = []

    def keep(scanner: Scanner, *args: Any) -> None:
        made.append(scanner)
        begin(scanner, *args)

    begin = Scanner.__init__
    {**PICKLES, **SHOWN_TWICE}[name].make(tmp_path)
    monkeypatch.setattr(Scanner, "__init__", keep)
    monkeypatch.setattr(torch, "load", build)
    with pytest.raises(CheckpointError):
        open_file(tmp_path / "bad.pth")
    for scanner in made:
        # what took a minute takes no more than the budget, and an opcode or a step more
        assert scanner.opcodes <= BUDGET.opcodes + 1
        assert scanner.size <= BUDGET.size + BUDGET.argument


EXCEEDED = {
    "size": (100, "100 bytes"),
    "argument": (20, "20 bytes of one text or number"),
    "opcodes": (50, "50 opcodes"),
    "globals": (2, "2 different globals"),
    "tuples": (1, "more than 1 deep"),
    "steps": (10, "10 steps"),
    "seconds": (-1.0, r"-1.0 seconds.*\n.*opcodes were read until then"),
}


@pytest.mark.parametrize("field", EXCEEDED)
def test_what_was_exceeded_is_named_with_the_way_out(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, says = EXCEEDED[field]
    monkeypatch.setattr(scanning, "BETWEEN_CLOCKS", 10)
    with pytest.raises(CheckpointError, match=says) as raised:
        scan(tiny(), Budget(**{field: limit}))
    assert "save the state dict alone" in raised.value.hint


def test_the_clock_is_looked_at_while_opcodes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(10_000))
    monkeypatch.setattr(scanning.time, "monotonic", lambda: float(next(looks)))
    scanner = Scanner(io.BytesIO(START + b"N" * 2_000_000 + STOP), Budget(seconds=60))
    with pytest.raises(CheckpointError, match="more than 60 seconds"):
        scanner.scan()
    assert scanner.opcodes == 61 * scanning.BETWEEN_CLOCKS


def write_run(parameters: int) -> dict[str, object]:
    """What DeepSpeed leaves of a run, with the state of Adam."""
    names = [f"blocks.{index}.mlp.fc1.weight" for index in range(parameters)]
    state = {
        index: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2, 2), "exp_avg_sq": torch.zeros(2, 2)}
        for index in range(parameters)
    }
    groups = [{"params": [index], "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8} for index in range(parameters)]
    return {
        "module": {name: torch.zeros(2, 2) for name in names},
        "optimizer": {"state": state, "param_groups": groups},
        "param_shapes": [collections.OrderedDict((name, torch.Size([2, 2])) for name in names)],
        "rng": random.getstate(),
        "history": [float(index) for index in range(10_000)],
    }


def test_what_training_writes_is_far_below_the_budget() -> None:
    parameters = 500
    scanner = scan(write_run(parameters))
    assert scanner.opcodes < 200 * parameters  # 4,000 of them are under a sixth of the budget
    assert 6 * 4_000 / parameters * scanner.opcodes < BUDGET.opcodes
    assert scanner.steps < scanner.opcodes
    assert scanner.size < 10 * scanner.opcodes
    assert len(scanner.names) < BUDGET.globals / 10
    assert scanner.large < BUDGET.large / 10


def test_what_pickle_makes_of_plain_values_is_let_pass(tmp_path: Path) -> None:
    values = {
        "bytes": b"\xff\0" * 100, "no bytes": b"", "bytearray": bytearray(b"abc"), "no bytearray": bytearray(),
        "set": {1, "a", (2, 3)}, "counter": collections.Counter("abca"), "complex": 1j, "large": [2**100, -(2**70)],
        "ordered": collections.OrderedDict(a=(1, (2,))), "random": random.getstate(), "array": array.array("d", [1]),
        "time": datetime.datetime(2023, 4, 5), "default": collections.defaultdict(set, a={1}), "tuples": {(1, 2): 3},
    }  # fmt: skip
    torch.save({"model": tiny(), "args": values}, tmp_path / "run.pth")
    assert same(read_checkpoint(tmp_path / "run.pth").state_dict, tiny())


def test_what_newer_protocols_make_of_plain_values_is_let_pass() -> None:
    values = {"bytes": b"abc", "set": {1, "a"}, "frozen": frozenset({(1, 2)}), "made": Named(), "none": ()}
    for protocol in (4, 5):
        content, foreign = read_pickle(io.BytesIO(pickle.dumps(values, protocol)))
        assert foreign == (f"{__name__}.Named",)
        assert type(content.pop("made")).__name__ == f"{__name__}.Named"
        assert content == {name: value for name, value in values.items() if name != "made"}


def test_what_the_scan_did_not_see_is_not_looked_up() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"\.getcwd, of which nothing is known"):
        InertUnpickler(io.BytesIO(pickle.dumps(os.getcwd)), {}).load()


def test_how_a_foreign_class_is_filled_is_seen_before_it_is() -> None:
    pickled = b"(c__main__\nA\n)\x81(X\1\0\0\0aNuc__main__\nB\n)\x81]aNac__main__\nC\n)\x81}bt"
    foreign = list_foreign(io.BytesIO(START + pickled + STOP), 1)
    assert foreign.names == ("__main__.A", "__main__.B", "__main__.C")
    assert (foreign.mappings, foreign.sequences) == ({"__main__.A"}, {"__main__.B"})


def test_marks_cost_nothing_however_much_lies_below_them() -> None:
    """Looked for from the top of a long stack, they would cost its length each."""
    scanner = Scanner(io.BytesIO(START + b"N" * 100_000 + b"(t" * 100_000 + STOP), BUDGET)
    scanner.scan()
    assert scanner.opcodes == 300_002
    assert not scanner.marked


def test_what_a_run_notes_of_its_host_and_its_failure_is_stood_in_for(tmp_path: Path) -> None:
    noted = {
        "hyper_parameters": {"host": platform.uname(), "error": ValueError("x"), "file": FileNotFoundError(2, "no")},
        "interrupted": KeyboardInterrupt(),
        "warning": ResourceWarning("y"),
    }
    path = save({"state_dict": tiny(), **noted}, tmp_path / "last.ckpt")
    assert same(load_checkpoint(path), tiny())
    foreign = ("builtins.KeyboardInterrupt", "builtins.OSError", "builtins.ResourceWarning", "builtins.ValueError")
    assert ", ".join((*foreign, "platform.uname_result")) in steps(path)["open"]
