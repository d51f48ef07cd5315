"""``--require-exact``: of a kind of processor that has it on record, and what is close is still the same model."""

from pathlib import Path

import torch

from conversion.report.baseline import write_baseline
from tests.support.cells import build_cell
from tests.support.commands import TINY, run

EXACT_EAGER = """
import conversion.families.dinov2.family
object.__setattr__(conversion.families.dinov2.family.FAMILY, "exact", frozenset({("cpu", "float32", "eager")}))
import conversion.report.baseline, pathlib
conversion.report.baseline.RECORD = pathlib.Path("verdicts.json").absolute()
"""


def record_as_exact(here: Path, processor: str) -> None:
    write_baseline(here / "verdicts.json", [build_cell(processor=processor)])


def test_close_is_not_enough_where_exact_is_required(here: Path) -> None:
    processor = torch.backends.cpu.get_cpu_capability()
    options = (*TINY, "--attention", "eager", "--parity-report", "report.html")
    record_as_exact(here, processor)
    assert run(here, *options, plugin=EXACT_EAGER)[0] == 0
    code, output = run(here, *options, "--require-exact", plugin=EXACT_EAGER)
    assert code == 1
    assert f"exact was reached here before on {processor}; here it is close" in output
    page = (here / "report.html").read_text()
    for text in (output, page):
        assert "not the same model" not in text
        assert "not shown to be the same model as" not in text
    assert "the same model, rounded otherwise" in output


def test_exact_is_not_required_of_another_kind_of_processor(here: Path) -> None:
    record_as_exact(here, "another")
    code, output = run(here, *TINY, "--attention", "eager", "--require-exact", plugin=EXACT_EAGER)
    assert code == 0, output
