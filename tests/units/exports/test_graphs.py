"""What runtimes compute of golden models of every kind, beside the original."""

from itertools import product
from pathlib import Path

import pytest

from conversion.exports.asked import INT8_STATIC, RUNTIMES, Export
from conversion.exports.write import choose_dtype
from conversion.parity.verdict import Verdict
from tests.support.exported import export_golden
from tests.support.golden import ARCHITECTURES, read_golden
from tests.support.sampling import Sampler

# of one of these, OpenVINO's convolutions err 2.1 times as much as the original's on one image
LOSSY = {("dinov2_tiny_dd", "openvino")}

OF_MAPS = ("semantic-segmentation", "depth-estimation")
"""Tasks of models whose heads have convolutions."""


def test_what_runtimes_compute_of_every_kind_is_the_same_model(sampler: Sampler, tmp_path: Path) -> None:
    """By default a model is drawn for each dtype; a head of convolutions takes as long as all others."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    exports: dict[str, list[Export]] = {}
    for export in (Export(name, precision) for name, runtime in RUNTIMES.items() for precision in runtime.precisions):
        if export.precision != INT8_STATIC:  # which needs pictures
            exports.setdefault(choose_dtype(export), []).append(export)
    kinds = [name for name in ARCHITECTURES if not name.startswith("dinov2_tiny_1") and name != "dinov2_tiny"]
    if not sampler.is_all:
        kinds = [name for name in kinds if read_golden(name).spec.task not in OF_MAPS]
    for number, (name, dtype) in enumerate(sampler.draw(product(kinds, exports), lambda case: (case[1],))):
        directory = tmp_path / str(number)
        directory.mkdir()
        for export, results in export_golden(name, dtype, exports[dtype], directory):
            verdicts, may_be_lossy = {result.verdict for result in results}, (name, export.runtime) in LOSSY
            if export.may_lose:
                assert Verdict.FAILED not in verdicts, (name, export)
                assert Verdict.LOSSY in verdicts, (name, export)
            else:
                allowed = {Verdict.EXACT, Verdict.CLOSE} | ({Verdict.LOSSY} if may_be_lossy else set())
                assert verdicts <= allowed, (name, export)
