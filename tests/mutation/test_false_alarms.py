"""A conversion without a fault is never failed: other seeds, every architecture, dtype and attention implementation.

One seed of an architecture and one attention implementation of a dtype, drawn; with ``--all`` all of them.
"""

from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
import torch

from conversion.artifact.card import MatrixVerdict
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from conversion.suite.cells import verify_cell
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import ARCHITECTURES, read_golden
from tests.support.sampling import Sampler

SEEDS = 5
CELLS = list(product(("eager", "sdpa"), ("float32", "float64", "bfloat16")))
SLOW = ("dinov2_tiny_dd",)
"""Of these one cell is drawn: with 256 channels in the head, as transformers' class has, one takes 20 seconds."""


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_no_intact_conversion_fails(
    model: str, sampler: Sampler, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    compared, alarms = 0, []
    for seed in sampler.draw(range(SEEDS), lambda _: (model,)):
        torch.save(draw_state_dict(read_golden(model).family, read_golden(model).spec, model, seed), tmp_path / "t.pth")
        cells = sampler.draw(CELLS, lambda cell: (model in SLOW or cell[1],))
        for cell in verify_cells(model, seed, tmp_path / "t.pth", cells):
            compared += sum(len(result.points) for result in cell.inputs)
            if cell.verdict is Verdict.FAILED:
                alarms.append(describe_failure(model, f"seed {seed}, {cell.dtype}, {cell.attention}", cell.inputs))
    record_property("intact_points", compared)
    record_property("false_alarms", len(alarms))
    assert not alarms, "\n".join(alarms)


def verify_cells(model: str, seed: int, checkpoint: Path, cells: list[tuple[str, str]]) -> list[MatrixVerdict]:
    """The verdicts on a checkpoint of a golden architecture by attention implementation and dtype."""
    golden = read_golden(model)
    request = Request(seed=seed, checkpoint=checkpoint, overrides=golden.overrides)
    with closing(Subject(f"{golden.family.name}_custom", request)) as subject:
        return [verify_cell(subject, ("cpu", dtype, attention)) for attention, dtype in cells]
