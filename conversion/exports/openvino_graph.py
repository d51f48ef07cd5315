"""OpenVINO: read from the ONNX graph, run by OpenVINO."""

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conversion.errors import ExportError
from conversion.exports.onnx_graph import write_tapped
from conversion.exports.runs import Exported, Run, quote
from conversion.exports.tracing import Traced

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""What a model has to be compiled with. Of itself, OpenVINO computes in bfloat16 where a processor has it, whatever the
file says: what a ViT-S returns is off by up to 0.02 then."""

CAUSE = -1
"""The line of its errors that says what is wrong; those before it say where in its source."""


def write_model(traced: Traced, path: Path, *, is_half: bool = False) -> Exported:
    """Write ``openvino_model.xml`` and its ``.bin``.

    Args:
        is_half: weights are kept in float16, and computed with in float32.

    Raises:
        ExportError: OpenVINO cannot read or run this model.
    """
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        whole, tapped = Path(scratch) / "model.onnx", Path(scratch) / path.name
        write_tapped(traced, whole)
        try:
            model = openvino.convert_model(whole)
            openvino.save_model(model, tapped, compress_to_fp16=is_half)
            openvino.save_model(_select_outputs(model, traced.returned), path, compress_to_fp16=is_half)
        except Exception as error:  # its own kinds, of C++
            raise ExportError(f"{path.name}: OpenVINO does not take it.", [quote(error, CAUSE)]) from error
        runs = compile_model(path), compile_model(tapped)
    version = openvino.__version__.partition("-")[0]
    return Exported(f"openvino {version}", (path, path.with_suffix(".bin")), *runs, {"settings": SETTINGS})


def compile_model(path: Path) -> Run:
    """OpenVINO on the CPU, in float32.

    Raises:
        ExportError: it does not take the model.
    """
    settings = {**SETTINGS, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        compiled = load_core().compile_model(path, "CPU", settings)
    except Exception as error:
        raise ExportError(f"{path.name}: OpenVINO does not take it.", [quote(error, CAUSE)]) from error
    outputs = [output.get_any_name() for output in compiled.outputs]

    def run(pixel_values: Tensor) -> dict[str, Tensor]:
        try:
            values = compiled(pixel_values.numpy())
        except Exception as error:
            headline = f"{path.name}: OpenVINO cannot run it on {tuple(pixel_values.shape)}."
            raise ExportError(headline, [quote(error, CAUSE)]) from error
        return {name: torch.from_numpy(values[index].copy()) for index, name in enumerate(outputs)}

    return run


@cache
def load_core() -> Any:
    """OpenVINO's core, the same for the whole process.

    Each core gives the thread that first compiles with it another stack for signals, and puts the former one back when
    it goes. Of two cores the first to go frees the stack that the other puts back: Ctrl+C then ends the process with a
    segmentation fault, before anything is cleaned up.
    """
    import openvino

    return openvino.Core()


def _select_outputs(model: Any, names: Iterable[str]) -> Any:
    """The same model with some of its outputs."""
    import openvino

    results = [result for result in model.get_results() if result.get_output_tensor(0).get_names() & set(names)]
    return openvino.Model(results, model.get_parameters(), model.get_friendly_name())
