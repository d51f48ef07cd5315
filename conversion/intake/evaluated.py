"""The whole teacher that DINOv2's training writes for its evaluation, held against what rank files make up."""

import re
from pathlib import Path

from conversion.errors import CheckpointError
from conversion.families.base import find_dropped
from conversion.intake.opening import open_file
from conversion.intake.steps import strip_prefixes, unchunk_blocks
from conversion.intake.unwrapping import unwrap
from conversion.mapping.key_map import StateDict
from conversion.parity.metrics import is_bit_equal

SAVED_AT = re.compile(r"^model_(\d+)\.rank")


def check_teacher(rank_file: Path, teacher: StateDict) -> str:
    """Check that a teacher is the one that the same iteration's evaluation has, where that lies in the run's folder.

    Args:
        rank_file: whose name has the iteration.
        teacher: put together from rank files.

    Returns:
        what was found, in words; empty where there is no such file.

    Raises:
        CheckpointError: they differ.
    """
    found = SAVED_AT.match(rank_file.name)
    place = Path("eval", f"training_{int(found[1])}", "teacher_checkpoint.pth") if found else None
    if place is None or not (rank_file.parent / place).is_file():
        return ""
    whole, ours = _clean(unwrap(open_file(rank_file.parent / place).content).state_dict), _clean(teacher)
    problems = [
        f"{name}: {'only in one of them' if name not in whole or name not in ours else 'other values'}"
        for name in sorted(whole.keys() | ours.keys())
        if name not in whole or name not in ours or not is_bit_equal(whole[name], ours[name])
    ]
    if problems:
        headline = f"the teacher in the rank files is not that of {place}, which the same iteration wrote."
        raise CheckpointError(headline, problems, f"Give that file: {rank_file.parent / place}.")
    return f"the same as {place.as_posix()}, bit for bit"


def _clean(state_dict: StateDict) -> StateDict:
    """A backbone under the original's keys, without heads of training losses."""
    named, _ = unchunk_blocks(strip_prefixes(state_dict, find_dropped)[0])
    return {name: tensor for name, tensor in named.items() if not find_dropped(name)}
