"""What an original computes from one input, kept for many comparisons, and the verdict on a model beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from conversion.families.base import Family, Spec
from conversion.parity.deviations import Deviation
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Stage
from conversion.parity.readers import Kept
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.inputs import InputCase, draw_inputs


@dataclass
class KeptRun(OriginalRun):
    """Remembers what was computed for the next comparison."""

    def side_by_side(self) -> OriginalRun:
        return self

    def read_expected(self) -> Kept:
        return self._kept_expected

    def read_precise(self) -> Kept:
        return self._kept_precise

    def _list_known(
        self, _stage: Stage, _expected: Mapping[str, Tensor], _precise: Mapping[str, Tensor]
    ) -> Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]:
        """All stages, since many comparisons ask."""
        expected, precise = self._kept_expected.runs, self._kept_precise.runs
        return {name: (run.values, precise[name].values) for name, run in expected.items()}

    @cached_property
    def _kept_expected(self) -> Kept:
        return Kept.of(self._run_expected(), self.stages)

    @cached_property
    def _kept_precise(self) -> Kept:
        return Kept.of(self._run_precise(), self.stages)


def run_original(
    family: Family[Any],
    spec: Spec,
    original: nn.Module,
    case: InputCase,
    dtype: torch.dtype = torch.float32,
    kind: type[OriginalRun] = OriginalRun,
) -> OriginalRun:
    """What an original of this spec computes from the noise of seed 0, to compare a converted model with."""
    stages = family.list_stages(spec, masked=case.masked)
    return kind(original, stages, draw_inputs(case, spec.patch_size, 0), dtype)


def verify_input(name: str, run: OriginalRun, converted: nn.Module, deviation: Deviation | None = None) -> InputVerdict:
    """Run a converted model on one input and judge it against what the original computes."""
    ((result,),) = verify_together([InputPlan(name, run, [Candidate(converted, deviation)])])
    return result
