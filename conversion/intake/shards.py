"""The shards of one model, put together as their index says."""

from collections.abc import Sequence

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.opening import Opened
from conversion.intake.sources import Source
from conversion.intake.unwrapping import check_state_dict


def join_shards(source: Source, opened: Sequence[Opened]) -> dict[str, Tensor]:
    """The tensors of all shards, each from the file that the index names, each named once."""
    held = {file: check_state_dict(each.content, file.name) for file, each in zip(source.files, opened, strict=True)}
    problems = [
        f"missing: {key}, which the index has in {file.name}"
        for key, file in source.keys.items()
        if key not in held[file]
    ]
    problems += [
        f"unexpected: {key} in {file.name}, of which the index says nothing"
        for file, tensors in held.items()
        for key in tensors
        if source.keys.get(key) != file
    ]
    if problems:
        hint = "Copy all files of one model again."
        raise CheckpointError("shards that are not those of their index.", problems, hint)
    return {key: held[file][key] for key, file in source.keys.items()}
