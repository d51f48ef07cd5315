"""A call in a thread of its own that takes turns with its caller: it runs until it pauses, and then waits."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any

import torch

THREAD_NAME = "parity pass"

LOOK_UP = 0.5
"""Seconds after which a caller that waits looks whether it was interrupted.

A signal that comes between its last look and its sleep does not wake it: Ctrl+C would do nothing until the next turn.
"""

# switches of torch that hold for the whole process, not for a thread: how each is read, and how it is set
SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
)


class _Closed(BaseException):
    """Ends a call that is not wanted any more."""


class PausableCall:
    """A call that can be suspended, so that several go side by side, one at a time.

    It runs in a thread of its own, because torch keeps autocast, gradient mode and dispatch modes per thread: what one
    call opens must not reach another, nor its caller. It starts from torch's defaults, in inference mode, on the
    caller's CUDA device and stream, with the caller's number of threads and context variables. What torch keeps for the
    whole process (:data:`SWITCHES`) is exchanged at every turn.

    Args:
        work: what is called.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._thread: threading.Thread | None = None
        self._turn, self._turn_of_caller = threading.Semaphore(0), threading.Semaphore(0)
        self._switches: list[Any] | None = None
        self._error: BaseException | None = None
        self.is_closed, self.has_ended = False, False

    def resume(self) -> None:
        """Run on until the call pauses or has ended; raise what was raised in it.

        An exception while waiting, as from Ctrl+C, closes it.
        """
        if self.is_closed:
            raise ValueError("a closed call cannot be resumed")
        if self.has_ended:
            return
        if self._thread is None:
            arguments = self._run, _carry_stream(), torch.get_num_threads()
            self._thread = threading.Thread(target=copy_context().run, args=arguments, name=THREAD_NAME, daemon=True)
            self._thread.start()
        try:
            self._take_turns(self._wait)
        except BaseException:
            self.close()
            raise
        if self.has_ended:
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame, which would hold it

    def pause(self) -> None:
        """Give the turn back to the caller, and wait for the next. Called by the call itself."""
        self._turn_of_caller.release()
        self._turn.acquire()
        self.end_if_closed()

    def end_if_closed(self) -> None:
        """End the call if it is not wanted any more. Called by the call itself."""
        if self.is_closed:
            raise _Closed

    def close(self) -> None:
        """End the call where it is paused. Its context managers exit; exceptions raised while they do are dropped."""
        self.is_closed, self._work = True, None
        if self._thread is not None and self._thread.is_alive():
            self._take_turns(self._thread.join)
        self._error = None

    def _wait(self) -> None:
        while not self._turn_of_caller.acquire(timeout=LOOK_UP):
            pass

    def _take_turns(self, wait: Callable[[], object]) -> None:
        outside = [read() for read, _ in SWITCHES]
        _set_switches(self._switches or outside)
        try:
            self._turn.release()
            wait()
        finally:
            self._switches = [read() for read, _ in SWITCHES]
            _set_switches(outside)

    def _run(self, stream: AbstractContextManager[Any], threads: int) -> None:
        torch.set_num_threads(threads)  # or the first products would take as many as the process began with
        self._turn.acquire()
        work, self._work = self._work, None
        try:
            if work is not None:
                with stream, torch.inference_mode():
                    work()
        except _Closed:
            pass
        except BaseException as error:  # is raised where the call is resumed
            self._error = error
        finally:
            del work
            self.has_ended = True
            self._turn_of_caller.release()


def _carry_stream() -> AbstractContextManager[Any]:
    """The caller's CUDA device and stream, which are per thread, for another thread."""
    if not torch.cuda.is_initialized():
        return nullcontext()
    return torch.cuda.stream(torch.cuda.current_stream())


def _set_switches(values: list[Any]) -> None:
    for (read, write), value in zip(SWITCHES, values, strict=True):
        if read() != value:
            write(value)
