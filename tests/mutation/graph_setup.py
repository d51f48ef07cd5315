"""A tiny model's exported graph, and what judges a graph with a fault: the verdict of an export, and other rules."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conversion.errors import ExportError
from conversion.exports import onnx_graph
from conversion.exports.onnx_graph import open_session
from conversion.exports.runs import Run
from conversion.exports.tracing import Traced
from conversion.parity.compare import Local
from conversion.parity.verdict import Verdict
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.exported import BATCH
from conversion.suite.inputs import draw_inputs, list_inputs
from tests.mutation.graph_faults import Array, GraphFault, list_faults, put_in
from tests.mutation.graph_places import list_computed_from_shapes
from tests.mutation.injection import OTHERS, Outcome, judge_by_others
from tests.support import golden
from tests.support.exported import trace
from tests.support.runs import KeptRun

GRAPHS = ("dinov2_tiny_reg", "beit_tiny_ft")
"""A backbone with registers, which takes images of any size; a classifier, which takes one size."""

GRAPH_LEVELS = ("runtime", "activations")
"""What notices a fault in a graph: the runtime, which does not run it; the verdict on what it computes."""

EXPORTERS_ATOL = (1e-3, 5e-3)
GRAPH_OTHERS = (*OTHERS, *(f"outputs within {atol:g}" for atol in EXPORTERS_ATOL))
"""The rules that others go by, and how far off exporters let outputs be."""


@dataclass(frozen=True)
class GraphOutcome(Outcome):
    """What noticed a fault, of :data:`GRAPH_LEVELS` and :data:`GRAPH_OTHERS`.

    Attributes:
        on: the input that it was noticed on; the last one, if it was not.
    """

    on: str = ""

    @property
    def survives(self) -> bool:
        """Whether the graph runs, and is exact or close on every input."""
        return self.noticed_by.isdisjoint(GRAPH_LEVELS)


class ExportedGraph:
    """The graph of a golden model, written once, and what its original computes from the inputs that it is judged on.

    These are the inputs of the suite that are noise: one image, several, another aspect ratio, another size.
    """

    def __init__(self, name: str) -> None:
        out, family = golden.convert(name), golden.read_golden(name).family
        self.traced = trace(out)
        with tempfile.TemporaryDirectory() as folder:
            self.model = _write(self.traced, Path(folder) / "model.onnx")
        original = family.load_original(out.spec, dict(out.source))
        self.runs: dict[str, KeptRun] = {}
        for case in list_inputs(out.spec, out.input_size, None):
            if case.masked or case.photo or case.baked:
                continue
            case = replace(case, batch=BATCH) if case.batch > 1 else case
            deviation = family.find_deviation(out.spec, case.shape, "float32", "onnx")
            attributes = deviation.original_attributes if deviation else {}
            inputs = draw_inputs(case, out.spec.patch_size, 0)
            self.runs[case.name] = KeptRun(original, self.traced.stages, inputs, torch.float32, attributes)

    @cached_property
    def folded(self) -> dict[str, Array]:
        """Value that is computed from the size of the images to what it is for those that the graph was traced with.

        What is the same for all images that it is judged on is left out: it may be folded.
        """
        names = list_computed_from_shapes(self.model.graph)
        run = open_graph(put_in(self.model, _return_too, *names))
        traced, *judged = (run(torch.zeros(shape)) for shape in (self.traced.shape, *self.shapes))
        return {
            name: traced[name].numpy()
            for name in names
            if not all(torch.equal(traced[name], values[name]) for values in judged)
        }

    @property
    def shapes(self) -> list[torch.Size]:
        """Of the inputs that it is judged on."""
        return [run.inputs.pixel_values.shape for run in self.runs.values()]

    def list_faults(self) -> list[GraphFault]:
        """Every fault at every place."""
        return list(list_faults(self.model, self.folded))

    def judge(self, fault: GraphFault, *, asks_others: bool = True) -> GraphOutcome:
        """What notices it; the other rules are asked about the first input alone."""
        noticed, on = set[str](), next(iter(self.runs))
        try:
            run = open_graph(fault.build())
            for number, on in enumerate(self.runs):
                asks_now = asks_others and number == 0
                computed = self.compute(run, on)
                noticed |= self._ask_others(on, computed) if asks_now else set()
                if self.verify(on, computed).verdict not in (Verdict.EXACT, Verdict.CLOSE):
                    noticed.add("activations")
                    break
        except ExportError:
            noticed |= {"runtime", *(GRAPH_OTHERS if asks_others and on == next(iter(self.runs)) else ())}
        return GraphOutcome(fault.kind, fault.where, frozenset(noticed), on)

    def compute(self, run: Run, name: str) -> dict[str, Tensor]:
        """Capture point to what a graph computes there from an input."""
        values, points = run(self.runs[name].inputs.pixel_values), {**self.traced.taps, **self.traced.returned}
        return {points[output]: value for output, value in values.items()}

    def verify(self, name: str, computed: Mapping[str, Tensor]) -> InputVerdict:
        """The verdict on what a graph computed from an input, as the suite judges an export."""
        run = self.runs[name]
        candidate = Candidate(None, None, self.traced.stages, run.inputs, computed)
        ((verdict,),) = verify_together([InputPlan(name, run, [candidate])], Local.NOWHERE)
        return verdict

    def _ask_others(self, name: str, computed: Mapping[str, Tensor]) -> set[str]:
        """Which of :data:`GRAPH_OTHERS` notice something."""
        run = self.runs[name]
        reader = run.read_expected()
        expected = {point: value for stage in run.stages for point, value in reader.read(stage).values.items()}
        noticed = judge_by_others(expected, computed)
        for atol in EXPORTERS_ATOL:
            outputs = [(expected[point], computed[point]) for point in self.traced.returned.values()]
            if not all(left.shape == right.shape and (left - right).abs().max() <= atol for left, right in outputs):
                noticed.add(f"outputs within {atol:g}")
        return noticed


def open_graph(model: Any) -> Run:
    """Run a ``ModelProto`` as an export is run.

    Raises:
        ExportError: the runtime does not take it.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return open_session(path)


def _write(traced: Traced, path: Path) -> Any:
    """The graph as it is looked into, a ``ModelProto``, but with ONNX's operator for resampling.

    Other exporters write it, and faults are put into it. An export has products of matrices in its place.
    """
    import onnx

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "interpolate_by_products", F.interpolate)
        onnx_graph.write_tapped(traced, path)
    return onnx.load(path)


def _return_too(graph: Any, *names: str) -> None:
    """Return these values, too."""
    for name in names:
        graph.output.add().name = name
