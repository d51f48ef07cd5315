"""Golden models as exports, and what they come to beside the original."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from conversion.artifact.load import load_converted
from conversion.exports.asked import Export
from conversion.exports.runs import Exported
from conversion.exports.tracing import Normalization, Traced, prepare
from conversion.exports.write import choose_dtype, write_export
from conversion.families.base import load_family
from conversion.parity.compare import Local
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.state_dicts.convert import Conversion
from conversion.suite.exported import merge_outputs
from tests.support import golden


def trace(out: Conversion, normalization: Normalization | None = None, dtype: str = "float32") -> Traced:
    """A converted model, to be exported."""
    attention = load_family(out.family).choose_attention()
    return prepare(out, load_converted(out, attention=attention, dtype=dtype), normalization)


def judge(out: Conversion, traced: Traced, exported: Exported, export: Export) -> list[InputVerdict]:
    """The verdicts on a native image, on three, and on one of another shape where the graph takes it."""
    family, spec, dtype = load_family(out.family), out.spec, getattr(torch, export.dtype)
    side, patch, stages = spec.image_size, spec.patch_size, traced.stages
    shapes = [(1, 3, side, side), (3, 3, side, side)] + [(1, 3, 4 * patch, 7 * patch)] * traced.is_dynamic
    original, verdicts = family.load_original(spec, out.source), []
    for shape in shapes:
        generator = torch.Generator().manual_seed(sum(shape))
        pixel_values = torch.randn(shape, generator=generator).to(getattr(torch, choose_dtype(export)))
        computed = merge_outputs(traced, exported.run_tapped(pixel_values), exported.run(pixel_values), dtype)
        inputs = Inputs(pixel_values)
        deviation = family.find_deviation(spec, shape, export.dtype, export.runtime)
        candidate = Candidate(None, deviation, stages, inputs, computed)
        plan = InputPlan(str(shape), OriginalRun(original, stages, inputs, dtype), [candidate])
        ((verdict,),) = verify_together([plan], Local.NOWHERE)
        verdicts.append(verdict)
    return verdicts


def export_golden(
    name: str, dtype: str, exports: Iterable[Export], directory: Path
) -> Iterator[tuple[Export, list[InputVerdict]]]:
    """Write a golden model for runtimes, and judge each.

    Args:
        dtype: that it is traced in, for all of them.
    """
    out = golden.convert(name)
    traced = trace(out, dtype=dtype)
    for export in exports:
        yield export, judge(out, traced, write_export(traced, export, directory), export)
