"""Compare two models stage by stage while both run, on one input; with a third in float64 where they differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cache, partial

import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, StageRun, copy_structure, run_stage
from conversion.parity.metrics import Distance, Likeness, departure_of, error_of, is_bit_equal, likeness_of
from conversion.parity.off import RETURNED
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import CapturePoint, Inputs, Stage, merge_stages
from conversion.parity.readers import Kept, Reader
from conversion.parity.verdict import OTHER_RUNS, PointVerdict, Verdict, Yardstick, find_vacuity, judge
from conversion.parity.zeros import find_zero_source


@dataclass(frozen=True)
class Evidence:
    """What is left of a comparison where it first failed, for :mod:`conversion.parity.diagnosis`.

    Attributes:
        point: the first capture point that failed.
        expected: what the original computed in its stage.
        actual: what the converted model computed there.
        local: what the converted stage computes from the original's input; None where it cannot be run by itself.
        precise: what the yardstick has there; None where it was not asked.
    """

    run: OriginalRun
    stage: Stage
    point: CapturePoint
    expected: StageRun
    actual: Mapping[str, Tensor]
    local: Mapping[str, Tensor] | None
    precise: Mapping[str, Tensor] | None


class Local(Enum):
    """Where local errors are measured, which costs another pass of the converted model where it is not exact."""

    EVERYWHERE = auto()
    WHERE_FAILED = auto()
    NOWHERE = auto()


LOGITS = "logits"
"""How the name of a capture point ends that decides between classes."""

UNREACHED = "this capture point was never reached"


@dataclass
class Comparison:
    """A converted model held against one run of the original, stage by stage.

    Attributes:
        is_judging: else differences are noted only, where a known deviation applies; what is left of them under its
            counterfactual is judged apart.
        measures_local: in which stages the error is measured of the stage by itself, too, on the original's input.
        points: the verdicts, in the order of the capture points; where differences are noted only, those that failed:
            what cannot be compared at all.
        noted: capture point to how far it is off, where not every bit agrees; of what the model returns, with how
            large that is.
        evidence: from the first stage that failed.
        likeness: of what a runtime returns, where not every bit agrees.
    """

    run: OriginalRun
    is_judging: bool = True
    measures_local: Local = Local.EVERYWHERE
    points: list[PointVerdict] = field(default_factory=list)
    noted: dict[str, Distance] = field(default_factory=dict)
    evidence: Evidence | None = None
    likeness: dict[str, Likeness] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._expected = self.run.read_expected()
        self._precise: Reader | None = None

    def add(self, stage: Stage, actual: StageRun, converted: nn.Module | None) -> None:
        """Judge what the converted model computed in the next stage."""
        expected = self._expected.read(stage)
        if not self.is_judging:
            self._note(stage, expected.values, actual.values)
            return
        precise = cache(partial(self._read_precise, stage))
        verdicts = [self._judge(stage, point, expected.values, actual.values, precise) for point in stage.points]
        is_failed = any(verdict.verdict is Verdict.FAILED for verdict in verdicts)
        local = None
        if self.measures_local is Local.EVERYWHERE or (is_failed and self.measures_local is Local.WHERE_FAILED):
            local = run_locally(stage, expected, actual, converted)
        if not stage.hf and all(point.verdict is Verdict.EXACT for point in self.points):
            local = actual.values  # whatever is computed here is computed from what the original has
        for point, verdict in zip(stage.points, verdicts, strict=True):
            if converted is None and verdict.difference and point.name.startswith(RETURNED):
                pair = actual.values[point.name], expected.values[point.name]
                self.likeness[point.name] = likeness_of(*pair, decides=point.name.endswith(LOGITS))
            if local is actual.values and verdict.difference:
                verdict = replace(verdict, local=verdict.difference)
            elif verdict.difference and local is not None and point.name in local:
                verdict = replace(verdict, local=error_of(local[point.name], expected.values[point.name]))
            self.points.append(verdict)
            if verdict.verdict is Verdict.FAILED and self.evidence is None:
                asked = precise() if verdict.original_error else None
                self.evidence = Evidence(self.run, stage, point, expected, actual.values, local, asked)

    def close(self) -> None:
        """End the passes of the original."""
        for reader in (self._expected, self._precise):
            if reader is not None:
                reader.close()

    def _note(self, stage: Stage, expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> None:
        """Note how far the converted model is off in a stage, and what of it cannot be compared."""
        for point in stage.points:
            name = point.name
            reason: str | None = UNREACHED
            if name in expected and name in actual:
                find = partial(find_zero_source, self.run.model, point)
                reason = find_vacuity(expected[name], actual[name], find)
                if not reason and not is_bit_equal(expected[name], actual[name]):
                    measure = departure_of if name.startswith(RETURNED) else error_of
                    self.noted[name] = measure(actual[name], expected[name])
            if reason:
                self.points.append(PointVerdict(name, Verdict.FAILED, reason=reason))

    def _read_precise(self, stage: Stage) -> Mapping[str, Tensor]:
        self._precise = self._precise or self.run.read_precise()
        return self._precise.read(stage).values

    def _judge(
        self,
        stage: Stage,
        point: CapturePoint,
        expected: Mapping[str, Tensor],
        actual: Mapping[str, Tensor],
        precise: Callable[[], Mapping[str, Tensor]],
    ) -> PointVerdict:
        name, find = point.name, partial(find_zero_source, self.run.model, point)
        if name not in expected or name not in actual:
            return PointVerdict(name, Verdict.FAILED, reason=UNREACHED)

        def others() -> Iterator[Distance]:
            for seed in range(OTHER_RUNS if self.evidence is None else 0):  # after a failure nothing depends on them
                yield self.run.measure_other(seed, stage, expected, precise())[name]

        def yardstick() -> Yardstick:
            return self.run.build_yardstick(expected[name], precise()[name])

        return judge(name, expected[name], actual[name], yardstick, others, find)


@dataclass(frozen=True)
class ConvertedRun:
    """A converted model on one input, where it is looked at, and each run of the original that it is held against.

    Attributes:
        computed: capture point to what it computed there, where it has run already: a runtime runs the whole graph at
            once, and has no modules.
    """

    converted: nn.Module | None
    inputs: Inputs
    stages: Sequence[Stage]
    comparisons: Sequence[Comparison]
    computed: Mapping[str, Tensor] = field(default_factory=dict)

    def open(self) -> Reader:
        """What can be read of it, stage by stage."""
        if self.converted is None:
            return Kept.at(self.stages, self.computed)
        return ForwardPass(copy_structure(self.converted), self.stages, "hf", self.inputs)


@torch.inference_mode()
def compare(*runs: ConvertedRun, at: Callable[[str], object] | None = None) -> None:
    """Run converted models, and each original that they are held against, stage by stage side by side.

    The inputs may differ: then a stage's weights are read, and cast, once for all of them.

    Args:
        at: told the name of every stage that is begun.
    """
    last = {id(comparison.run): run for run in runs for comparison in run.comparisons}
    with ExitStack() as stack:
        passes: list[Reader] = []
        for run in runs:
            for comparison in run.comparisons:
                stack.callback(comparison.close)
            passes.append(run.open())
            stack.callback(passes[-1].close)
        for name in (stage.name for stage in merge_stages(*(run.stages for run in runs))):
            if at:
                at(name)
            for run, actual in zip(runs, passes, strict=True):
                # not all have all: a masked input is seen by a classifier's backbone alone
                for stage in (stage for stage in run.stages if stage.name == name):
                    reached = actual.read(stage)
                    for comparison in run.comparisons:
                        comparison.add(stage, reached, run.converted)
                for comparison in run.comparisons:
                    if last[id(comparison.run)] is run:  # or memory holds what all inputs have in a stage
                        comparison.run.forget()


def run_locally(
    stage: Stage, expected: StageRun, actual: StageRun, converted: nn.Module | None
) -> Mapping[str, Tensor] | None:
    """What the converted model computes in a stage from the original's input to it, so that no earlier error is in it.

    Returns:
        capture point to tensor; None where the stage cannot be run by itself, or not on that input.
    """
    if converted is None or not expected.arguments or not actual.arguments:
        return None
    if not expected.arguments[0] or not actual.arguments[0]:
        return None
    (given, *_), _ = expected.arguments
    (own, *others), named = actual.arguments
    if is_bit_equal(given, own):
        return actual.values
    if given.shape != own.shape:
        return None
    return run_stage(converted, stage, "hf", ((given, *others), named))
