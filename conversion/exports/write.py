"""Write a converted model for a runtime, whichever that is."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from conversion.errors import ExportError
from conversion.exports.asked import INT8_STATIC, Export
from conversion.exports.runs import Exported
from conversion.exports.tracing import Traced


def choose_dtype(export: Export) -> str:
    """The name of the torch dtype that a model has when it is traced.

    OpenVINO keeps weights in float16 and computes in float32: its graph is that of float32.
    """
    return "float32" if export.runtime == "openvino" else export.dtype


def write_export(
    traced: Traced,
    export: Export,
    directory: Path,
    opset: int | None = None,
    calibration: Sequence[Tensor] = (),
) -> Exported:
    """Write an artifact's model for a runtime, into a folder of the artifact.

    Args:
        opset: of ONNX; torch's own choice unless given.
        calibration: inputs of the graph, on which static integers measure the ranges of activations.

    Raises:
        ExportError: the exporter or the runtime cannot do this with this model.
    """
    path = directory / export.file
    try:
        path.parent.mkdir(exist_ok=True)
        _check_space(traced, path)
        return _write(traced, export, path, opset, calibration)
    except OSError as error:
        hint = "Nothing was left behind. Check free space and permissions."
        raise ExportError(f"{path}: cannot be written: {error}", hint=hint) from error


def _check_space(traced: Traced, path: Path) -> None:
    """Refuse a disk that is too full: what writes the files ends the process there, or says something else.

    Raises:
        ExportError: there is not as much space as the weights take twice.
    """
    needed = 2 * sum(weight.nbytes for weight in traced.model.state_dict().values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        headline = f"{path.name}: takes {needed:,} bytes while it is written; {free:,} are free."
        raise ExportError(headline, hint="Make room, or choose another directory.")


def _write(traced: Traced, export: Export, path: Path, opset: int | None, calibration: Sequence[Tensor]) -> Exported:
    # each loads libraries that the others do without
    if export.runtime == "torch":
        from conversion.exports.torch_program import write_program

        return write_program(traced, path)
    if export.runtime == "openvino":
        from conversion.exports.openvino_graph import write_model

        return write_model(traced, path, is_half=export.precision == "float16")
    from conversion.exports.onnx_graph import write_graph

    given = calibration if export.precision == INT8_STATIC else ()
    return write_graph(traced, path, opset=opset, is_int8=export.may_lose, calibration=given)
