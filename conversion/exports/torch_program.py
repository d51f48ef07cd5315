"""``torch.export``: a program that torch runs without the code of transformers."""

from pathlib import Path

import torch
from torch import Tensor

from conversion.exports.runs import Exported, Run
from conversion.exports.tracing import Traced, quiet


def write_program(traced: Traced, path: Path) -> Exported:
    """Write ``model.pt2``, and read it back."""
    torch.export.save(traced.export(tapped=False), path)
    with quiet():
        written = torch.export.load(path)
    tapped = traced.export(tapped=True)
    return Exported(f"torch {torch.__version__}", (path,), build_run(written), build_run(tapped))


def build_run(program: torch.export.ExportedProgram) -> Run:
    """What runs a program, on the CPU."""
    module = program.module()

    def run(pixel_values: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode():
            returned: dict[str, Tensor] = module(pixel_values)
        return returned

    return run
