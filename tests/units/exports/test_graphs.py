"""What runtimes compute of golden models of every kind, beside the original."""

from itertools import product
from pathlib import Path

import pytest

from conversion.exports.asked import INT8_STATIC, RUNTIMES, Export
from conversion.parity.verdict import Verdict
from tests.support.exported import export_golden
from tests.support.golden import ARCHITECTURES
from tests.support.sampling import Sampler

# of one of these, OpenVINO's convolutions err 2.1 times as much as the original's on one image
LOSSY = {("dinov2_tiny_dd", "openvino")}


def test_what_runtimes_compute_of_every_kind_is_the_same_model(sampler: Sampler, tmp_path: Path) -> None:
    """By default each runtime once, on a model that is drawn; a head of convolutions takes as long as all others."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    every = [Export(name, precision) for name, runtime in RUNTIMES.items() for precision in runtime.precisions]
    exports = [export for export in every if export.precision != INT8_STATIC]  # which needs pictures
    kinds = [name for name in ARCHITECTURES if not name.startswith("dinov2_tiny_1") and name != "dinov2_tiny"]
    if not sampler.is_all:
        kinds = [name for name in kinds if not name.endswith(("_dd", "_ade20k"))]
    for number, (name, export) in enumerate(sampler.draw(product(kinds, exports), lambda case: (case[1].label,))):
        directory = tmp_path / str(number)
        directory.mkdir()
        verdicts = {result.verdict for result in export_golden(name, export, directory)}
        if export.may_lose:
            assert Verdict.FAILED not in verdicts, (name, export)
            assert Verdict.LOSSY in verdicts, (name, export)
        else:
            allowed = {Verdict.EXACT, Verdict.CLOSE} | ({Verdict.LOSSY} if (name, export.runtime) in LOSSY else set())
            assert verdicts <= allowed, (name, export)
