"""The folders that DeepSpeed writes: ``latest`` and ``zero_to_fp32.py``, and a folder of files for each step."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from conversion.errors import CheckpointError
from conversion.intake.folder_files import suggest

LATEST, SCRIPT = "latest", "zero_to_fp32.py"
"""What lies beside the steps: the name of the last of them, and what puts the parts of a model together."""

LONGEST = 256
"""Characters of the name of a step."""

MODEL = re.compile(r"mp_rank_(\d+)_model_states\.pt")
"""The whole model, of ZeRO 1 and 2 and without ZeRO; several are the parallel parts of one."""

PART = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
"""Of ZeRO 3: a rank's part of every parameter lies with the optimizer, and nothing of it here."""

OPTIMIZER = re.compile(r".*_optim_states\.pt")


def find_step(folder: Path) -> Path | None:
    """The folder of the last step, which ``latest`` names; None where there is none."""
    try:
        with (folder / LATEST).open(encoding="utf-8") as file:
            name = file.read(LONGEST).strip()
        is_name = name not in ("", ".", "..") and Path(name).name == name
        return folder / name if is_name and (folder / name).is_dir() else None
    except (OSError, ValueError):  # among others, where no file can have such a name
        return None


def is_step(files: Sequence[Path]) -> bool:
    """Whether these are the files of a step, and no others."""
    kinds = (MODEL, PART, OPTIMIZER)
    return bool(files) and all(any(kind.fullmatch(path.name) for kind in kinds) for path in files)


def find_model(files: Sequence[Path]) -> Path:
    """The file of a step that holds the model.

    Raises:
        CheckpointError: the model lies in parts, or there is nothing of it.
    """
    whole = [path for path in files if MODEL.fullmatch(path.name)]
    parts = [path for path in files if PART.fullmatch(path.name)]
    optimizer = [path for path in files if OPTIMIZER.fullmatch(path.name)]
    if parts:
        raise CheckpointError(
            "a checkpoint of DeepSpeed's ZeRO 3, in which every rank has a part of each parameter.",
            [path.name for path in [*parts, *optimizer]],
            hint=_suggest_script(parts[0].parent),
        )
    if len(whole) > 1:
        raise CheckpointError(
            "a model that was trained in parallel parts, a file of DeepSpeed's for each.",
            [path.name for path in whole],
            hint="Save the state dict of the whole model where it was trained.",
        )
    if not whole:
        raise CheckpointError(
            "DeepSpeed's optimizer, without the model.",
            [path.name for path in optimizer],
            hint="Copy mp_rank_00_model_states.pt into this folder, too, or give that file.",
        )
    return whole[0]


def describe_model(model: Path, files: Sequence[Path]) -> str:
    """In a line, that the model of a step was taken, and what was not: ZeRO has the weights a second time."""
    did = f"{model.name} taken, the model as DeepSpeed ran it"
    if optimizer := [path.name for path in files if OPTIMIZER.fullmatch(path.name)]:
        did += f"; not taken: {', '.join(optimizer)}, of the optimizer, which may have the weights in float32"
        did += f" where it ran in another precision ({SCRIPT} puts those together)"
    return did


def list_other_steps(step: Path) -> list[str]:
    """The names of the other steps beside one."""
    return sorted(path.name for path in step.parent.iterdir() if path != step and any(path.glob("*_model_states.pt")))


def describe_step(step: Path, others: Sequence[str]) -> str:
    """In a line, which step of a folder was taken, and which were not."""
    return f"the step {step.name}, which {LATEST} names" + (f"; not {', '.join(others)}" if others else "")


def refuse_part(path: Path) -> None:
    """Refuse a file of DeepSpeed's that does not hold a model, by its name.

    Raises:
        CheckpointError: it is one; with where the model lies.
    """
    if PART.fullmatch(path.name):
        headline = "one file of DeepSpeed's ZeRO 3, in which every rank has a part of each parameter."
        raise CheckpointError(headline, hint=_suggest_script(path.parent))
    if MODEL.fullmatch(path.name):
        find_model([each for each in sorted(path.parent.iterdir()) if MODEL.fullmatch(each.name)])
    if OPTIMIZER.fullmatch(path.name):
        model = find_model(sorted(path.parent.iterdir()))
        raise CheckpointError("DeepSpeed's optimizer, not the model.", hint=f"Give the model: {suggest(model)}")


def _suggest_script(step: Path) -> str:
    """How the parts of a step are put together, as a command."""
    step = step.absolute()
    folder = step.parent
    tag = "" if find_step(folder) == step else f" --tag {shlex.quote(step.name)}"
    script = SCRIPT if (folder / SCRIPT).exists() else "-m deepspeed.utils.zero_to_fp32"
    command = f"cd {shlex.quote(str(folder))} && python {script} . out{tag}"
    return f"Put it together where DeepSpeed is installed, and give what it writes, {folder / 'out'}: {command}"
