"""``torch.export``: a program that torch runs without the code of transformers."""

from pathlib import Path

import torch
from torch import Tensor

from conversion.errors import ExportError
from conversion.exports.runs import Exported, Run, quote
from conversion.exports.tracing import Traced, quiet


def write_program(traced: Traced, path: Path) -> Exported:
    """Write ``model.pt2``, and read it back."""
    program = traced.export(tapped=False)
    try:
        torch.export.save(program, path)
        with quiet():
            written = torch.export.load(path)
    except OSError:
        raise
    except Exception as error:  # torch's own writer says RuntimeError of a full disk
        raise ExportError(f"{path.name}: cannot be written.", [quote(error)]) from error
    tapped = traced.export(tapped=True)
    return Exported(f"torch {torch.__version__}", (path,), build_run(written), build_run(tapped))


def build_run(program: torch.export.ExportedProgram) -> Run:
    """What runs a program, on the CPU."""
    module = program.module()

    def run(pixel_values: Tensor) -> dict[str, Tensor]:
        try:
            with torch.inference_mode():
                returned: dict[str, Tensor] = module(pixel_values)
        except Exception as error:  # a guard of the program, of whatever kind
            headline = f"the torch program cannot be run on {tuple(pixel_values.shape)}."
            raise ExportError(headline, [quote(error)]) from error
        return returned

    return run
