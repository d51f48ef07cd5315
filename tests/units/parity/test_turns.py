"""Passes that take turns: none reaches another's state of torch, and nothing is left of one that was closed."""

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, capture
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Stage
from conversion.parity.turns import SWITCHES, THREAD_NAME, PausableCall
from conversion.parity.verdict import Verdict
from tests.support.net_in_context import DEPTH, INPUTS, STAGES, Net, build_stage
from tests.support.runs import verify_input


def autocast() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl+C is heard; a process that a shell has put into the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert count_threads() == 0


def count_threads() -> int:
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())


def has_hooks(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_pass_beside_another_computes_what_it_computes_alone() -> None:
    alone = {context: capture(Net(context), STAGES, "hf", INPUTS) for context in (nullcontext, autocast)}
    beside: dict[Any, dict[str, Tensor]] = {nullcontext: {}, autocast: {}}
    one, other = ForwardPass(Net(autocast), STAGES, "original", INPUTS), ForwardPass(Net(), STAGES, "hf", INPUTS)
    with closing(one), closing(other):
        for stage in STAGES:
            beside[autocast] |= one.read(stage).values
            beside[nullcontext] |= other.read(stage).values
            assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    for context, values in alone.items():
        assert all(torch.equal(value, beside[context][name]) for name, value in values.items())
        assert {value.dtype for value in values.values()} == {value.dtype for value in beside[context].values()}


@pytest.mark.parametrize(("original", "converted"), [(nullcontext, autocast), (autocast, nullcontext)])
def test_models_that_differ_by_a_context_of_their_own_are_told_apart(original: Any, converted: Any) -> None:
    alone = [capture(Net(context), STAGES, "hf", INPUTS)["out"] for context in (original, converted)]
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3
    result = verify_input("any", OriginalRun(Net(original), STAGES, INPUTS, torch.float32), Net(converted))
    assert result.verdict is Verdict.FAILED


def test_a_pass_starts_from_the_defaults_of_torch() -> None:
    """What its reader has opened is the reader's."""
    alone = capture(Net(), STAGES, "hf", INPUTS)
    with autocast(), torch.enable_grad():
        beside = capture(Net(), STAGES, "hf", INPUTS)
    assert all(torch.equal(alone[name], beside[name]) and not beside[name].requires_grad for name in alone)


class Switched:
    """Puts every switch that holds for the whole process to another value for a while."""

    def __enter__(self) -> None:
        self.before = read_switches()
        torch.set_default_dtype(torch.float64)
        for (_, write), value in list(zip(SWITCHES, self.before, strict=True))[1:]:
            write(not value)

    def __exit__(self, *_: object) -> None:
        for (_, write), value in zip(SWITCHES, self.before, strict=True):
            write(value)


def read_switches() -> list[Any]:
    return [read() for read, _ in SWITCHES]


@pytest.mark.parametrize("reads_all", [True, False])
def test_what_holds_for_the_whole_process_is_exchanged_at_every_turn(reads_all: bool) -> None:
    outside, inside = read_switches(), []
    model = Net(Switched, lambda _: inside.append(read_switches()))
    run = ForwardPass(model, STAGES, "hf", INPUTS)
    for stage in STAGES if reads_all else STAGES[:2]:
        run.read(stage)
        assert read_switches() == outside
    run.close()
    assert read_switches() == outside
    changed = [torch.float64, *(not value for value in outside[1:])]
    assert inside == [changed] * (DEPTH if reads_all else 1)


def test_a_pass_that_was_never_read_is_closed() -> None:
    model = Net()
    ForwardPass(model, STAGES, "hf", INPUTS).close()
    assert not has_hooks(model)


@pytest.mark.parametrize("stages", [STAGES[:1], STAGES[:2], STAGES])
def test_a_closed_pass_leaves_nothing_and_is_not_read(stages: list[Stage]) -> None:
    ran: list[int] = []
    model = Net(after=ran.append)
    run = ForwardPass(model, STAGES, "hf", INPUTS)
    for stage in stages:
        run.read(stage)
    before = list(ran)
    run.close()
    run.close()
    assert ran == before
    assert not has_hooks(model)
    with pytest.raises(ValueError, match="closed pass"):
        run.read(STAGES[-1])


def test_a_pass_that_has_ended_has_no_thread() -> None:
    run = ForwardPass(Net(), [*STAGES, build_stage("absent", ":absent")], "hf", INPUTS)
    assert run.read(build_stage("absent", ":absent")).values == {}
    assert count_threads() == 0
    run.close()


def test_an_error_is_raised_where_it_is_read_with_its_traceback() -> None:
    def fail(index: int) -> None:
        if index == 1:
            raise KeyError("of the model")

    model = Net(after=fail)
    run = ForwardPass(model, STAGES, "hf", INPUTS)
    run.read(STAGES[1])
    with pytest.raises(KeyError, match="of the model") as raised:
        run.read(STAGES[2])
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names[-2:] == ["forward", "fail"]
    assert not has_hooks(model)
    assert count_threads() == 0
    run.close()


class Stubborn:
    """Turns whatever ends it into an error, or into nothing."""

    def __init__(self, swallows: bool) -> None:
        self.swallows = swallows

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> bool:
        if not self.swallows:
            raise RuntimeError("while it was closed")
        return True


@pytest.mark.parametrize("swallows", [True, False])
def test_a_model_that_does_not_end_quietly_is_closed_all_the_same(swallows: bool) -> None:
    class Loop(Net):
        def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
            for _ in range(2):
                with self.context():
                    super().forward(pixel_values)
            return {"out": pixel_values}

    model = Loop(lambda: Stubborn(swallows))
    run = ForwardPass(model, STAGES, "hf", INPUTS)
    run.read(STAGES[0])
    run.close()
    assert not has_hooks(model)
    assert count_threads() == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to a thread")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_it_runs_closes_it() -> None:
    ran: list[int] = []

    def interrupt(index: int) -> None:
        ran.append(index)
        if index == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            deadline = time.monotonic() + 10
            while not run._call.is_closed and time.monotonic() < deadline:
                time.sleep(0.01)

    model = Net(after=interrupt)
    run = ForwardPass(model, STAGES, "hf", INPUTS)
    with pytest.raises(KeyboardInterrupt):
        run.read(STAGES[2])
    assert ran == [0]  # it went no further than the next capture point
    assert not has_hooks(model)
    with pytest.raises(ValueError, match="closed pass"):
        run.read(STAGES[2])


def test_a_call_has_its_callers_context_and_keeps_its_own() -> None:
    variable, found = ContextVar("variable", default=0), []

    def work() -> None:
        for _ in range(2):
            found.append(variable.get())
            variable.set(variable.get() + 1)
            call.pause()

    variable.set(5)
    call = PausableCall(work)
    call.resume()
    call.resume()
    call.close()
    assert (found, variable.get()) == ([5, 6], 5)


def test_a_call_that_has_ended_stays_so_and_a_closed_one_is_not_resumed() -> None:
    ran: list[int] = []
    call = PausableCall(lambda: ran.append(1))
    call.resume()
    call.resume()
    assert (ran, call.has_ended) == ([1], True)
    call.close()
    with pytest.raises(ValueError, match="a closed call cannot be resumed"):
        call.resume()


def test_a_call_runs_on_its_callers_device_and_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the driver: what a machine without a GPU can show."""
    entered: list[tuple[object, bool]] = []

    class Entering:
        def __init__(self, stream: object) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            entered.append((self.stream, threading.current_thread() is threading.main_thread()))

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: threading.current_thread().name)
    monkeypatch.setattr(torch.cuda, "stream", Entering)
    PausableCall(lambda: None).resume()
    assert entered == [(threading.main_thread().name, False)]


@pytest.mark.skipif(sys.platform != "linux", reason="its libraries have other names")
def test_a_call_uses_as_many_threads_as_its_caller() -> None:
    """OpenMP is asked, which MKL asks: if torch were, it would first set them."""
    openmp = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(before + 1)
    PausableCall(lambda: found.append(openmp.omp_get_max_threads())).resume()
    torch.set_num_threads(before)
    assert found == [before + 1]
