"""Ctrl+C after models were run by OpenVINO."""

from pathlib import Path

import pytest

from tests.support.forked import CAN_FORK, running

INTERRUPTED = """
import signal, sys
from pathlib import Path
import numpy, openvino
from openvino import opset13 as operators
from conversion.exports.openvino_graph import compile_model

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background ignores
path = Path(sys.argv[1]) / "model.xml"
numbers = operators.parameter([1, 4], numpy.float32, name="pixel_values")
openvino.save_model(openvino.Model([operators.relu(numbers)], [numbers], "model"), path)
one, other = compile_model(path), compile_model(path)
del one  # the first that was made goes first
del other
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(not CAN_FORK, reason="the system has no fork")
def test_an_interrupt_is_heard_after_openvino_has_run(tmp_path: Path) -> None:
    """In a process of its own: its signals go to a stack that OpenVINO has set, and would end this one."""
    pytest.importorskip("openvino")
    with running(INTERRUPTED, str(tmp_path)) as (process, written):
        output = written.read()
        process.join()
    assert (process.exitcode, output) == (0, "interrupted\n")
