"""A conversion without a fault is never failed: other seeds, every architecture, dtype and attention implementation."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch

from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from conversion.suite.cells import verify_cell
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import ARCHITECTURES, read_golden

SEEDS = range(5)
CELLS = list(product(("eager", "sdpa"), ("float32", "float64", "bfloat16")))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_no_intact_conversion_fails(
    model: str, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    golden = read_golden(model)
    family = golden.family
    torch.save(draw_state_dict(family, golden.spec, model, seed), tmp_path / "tiny.pth")
    request = Request(seed=seed, checkpoint=tmp_path / "tiny.pth", overrides=golden.overrides)
    subject = Subject(f"{family.name}_custom", request)
    compared, alarms = 0, []
    try:
        for attention, dtype in CELLS:
            cell = verify_cell(subject, ("cpu", dtype, attention))
            compared += sum(len(result.decisive) for result in cell.inputs)
            if cell.verdict is Verdict.FAILED:
                alarms.append(describe_failure(model, f"{dtype}, {attention}", cell.inputs))
    finally:
        subject.close()
    record_property("intact_points", compared)
    record_property("false_alarms", len(alarms))
    assert not alarms, "\n".join(alarms)
