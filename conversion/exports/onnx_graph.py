"""ONNX: written by torch's own exporter, run by ONNX Runtime."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conversion.errors import ExportError
from conversion.exports.resampling import interpolate_by_products
from conversion.exports.runs import Exported, Run, quote
from conversion.exports.tracing import Traced, quiet
from conversion.patching import with_interpolation

PRODUCTS = ("MatMul", "Gemm")
"""Operators whose weights become integers while their inputs are rounded as they come. Convolutions stay as they are:
most of the loss would arise in the first, of pixels into patches, which is a small part of the work."""

LARGE = 1_800_000_000
"""Bytes of weights from which they lie in a file of their own: a graph holds two gigabytes at most."""


def write_graph(
    traced: Traced,
    path: Path,
    *,
    opset: int | None = None,
    is_int8: bool = False,
    calibration: Sequence[Tensor] = (),
) -> Exported:
    """Write ``model.onnx``, with its weights beside it where they are large.

    The graph that is written and the one that is looked into are one and the same: the latter has more outputs.

    Args:
        opset: of ONNX; torch's own choice unless given.
        is_int8: matrices of weights as integers; their inputs are rounded to integers as they come.
        calibration: inputs of the graph; with some, inputs of matrices are rounded by ranges that are measured on them.

    Raises:
        ExportError: torch or ONNX Runtime cannot do this with this model.
    """
    import onnxruntime

    tapped, whole = path.with_name(f".{path.name}"), path.with_name(f".whole.{path.name}") if is_int8 else path
    written = write_tapped(traced, whole, opset)
    if opset not in (None, written):
        hint = f"Leave --opset out, or give one that torch writes, as {written}."
        raise ExportError(f"{path.name}: torch wrote opset {written} in place of {opset}.", hint=hint)
    if is_int8:
        _quantize(whole, path, [{traced.input: each.numpy()} for each in calibration])
    split_outputs(path, tapped, traced.returned)
    try:
        run, run_tapped = open_session(path), open_session(tapped)
    finally:
        tapped.unlink(missing_ok=True)
    files = tuple(each for each in (path, _data_of(path)) if each.exists())
    return Exported(f"onnxruntime {onnxruntime.__version__}", files, run, run_tapped, {"opset": written})


def open_session(path: Path) -> Run:
    """ONNX Runtime on the CPU, with the settings that it has of itself.

    Raises:
        ExportError: it does not take the graph, as where it lacks an operator.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, too
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, which it does not publish
        raise ExportError(f"{path.name}: ONNX Runtime does not take it.", [quote(error)]) from error
    name, outputs = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]

    def run(pixel_values: Tensor) -> dict[str, Tensor]:
        try:
            values = session.run(outputs, {name: pixel_values.numpy()})
        except Exception as error:
            headline = f"{path.name}: ONNX Runtime cannot run it on {tuple(pixel_values.shape)}."
            raise ExportError(headline, [quote(error)]) from error
        return dict(zip(outputs, map(torch.from_numpy, values), strict=True))

    return run


def split_outputs(path: Path, tapped: Path, returned: Iterable[str]) -> None:
    """Move a graph with all outputs to ``tapped``, and leave one at ``path`` with those that the model returns."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    onnx.save(graph, tapped)
    kept = [output for output in graph.graph.output if output.name in set(returned)]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    onnx.save(graph, path)


def write_tapped(traced: Traced, path: Path, opset: int | None = None) -> int:
    """Write the graph with what is looked at on the way among its outputs; the opset that it has.

    Raises:
        ExportError: torch cannot do this with this model.
    """
    size = sum(weight.nbytes for weight in traced.model.state_dict().values())
    try:
        if opset not in traced.graphs:
            traced.graphs[opset] = _build_graph(traced, opset)
        traced.graphs[opset].save(path, external_data=size > LARGE)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{path.name}: torch cannot export this model.", [quote(error)]) from error
    version: int = traced.graphs[opset].model.opset_imports[""]
    return version


def _build_graph(traced: Traced, opset: int | None) -> Any:
    """Torch's graph of a model, in memory, with the outputs that are looked at."""
    with with_interpolation(interpolate_by_products):
        program = traced.export(tapped=True)
    with quiet():
        return torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[traced.input],
            output_names=[*traced.returned, *traced.taps],
            opset_version=opset,
        )


def _quantize(whole: Path, path: Path, calibration: Sequence[dict[str, Any]]) -> None:
    """Integers of eight bits, with ONNX Runtime's own tool: dynamic, or, with calibration, static (QDQ)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    try:
        with quiet():
            options = {"weight_type": QuantType.QInt8, "use_external_data_format": _data_of(whole).exists()}
            if calibration:
                quantize_static(whole, path, _Reader(calibration), **options)
            else:
                quantize_dynamic(whole, path, op_types_to_quantize=PRODUCTS, **options)
    except Exception as error:  # of ONNX and of protobuf, besides its own
        raise ExportError(f"{path.name}: cannot be quantized.", [quote(error)]) from error
    finally:
        whole.unlink()
        _data_of(whole).unlink(missing_ok=True)


class _Reader:
    """Inputs, one after the other, as ONNX Runtime's calibration wants them."""

    def __init__(self, inputs: Sequence[dict[str, Any]]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def _data_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")
