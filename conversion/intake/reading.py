"""From the files of a source to the one state dict in them, whatever they are wrapped in or divided among."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.dcp import read_distributed
from conversion.intake.evaluated import check_teacher
from conversion.intake.flattened import is_flattened, unflatten_ranks
from conversion.intake.layouts import find_layout
from conversion.intake.opening import Opened, open_file
from conversion.intake.ranks import WHOLE, check_whole, merge_ranks
from conversion.intake.shards import join_shards
from conversion.intake.sources import CONSOLIDATE, Source
from conversion.intake.steps import Step, check_values
from conversion.intake.unwrapping import Unwrapped, unwrap


class Read(NamedTuple):
    """What was read of a source.

    Attributes:
        unwrapped: where it lay in the first file.
        content: of the first file; None of a distributed checkpoint.
    """

    state_dict: dict[str, Tensor]
    steps: list[Step]
    unwrapped: Unwrapped
    content: Any
    files: tuple[Path, ...]


def read_source(source: Source, entry: str | None, like: str | None) -> Read:
    """Read the model in a source, of whichever kind it is."""
    if source.kind == "distributed":
        found = read_distributed(source.files[0].parent, entry)
        check_whole(found.state_dict, WHOLE)
        steps = [Step("open", found.opened), *([Step("unwrap", found.choice)] if found.choice else [])]
        return Read(found.state_dict, steps, found.taken, None, found.files)
    opened = open_files(source)
    return Read(*take_model(source, opened, entry, like), opened[0].content, source.files)


def open_files(source: Source) -> list[Opened]:
    """The content of each of a source's files, in their order."""
    return [open_file(file) for file in source.files]


def take_model(
    source: Source, opened: Sequence[Opened], entry: str | None, like: str | None = None
) -> tuple[dict[str, Tensor], list[Step], Unwrapped]:
    """The state dict in a source's opened files, what was done to get at it, and where it lay in the first of them."""
    count = f"{len(opened)} {source.kind}, " if source.kind != "file" else ""
    foreign = sorted({name for each in opened for name in each.foreign})
    did = count + ", ".join(sorted({each.format for each in opened}))
    did += f"; not built, but stood in for: {', '.join(foreign)}" if foreign else ""
    contents = [join_shards(source, opened)] if source.kind == "shards" else [each.content for each in opened]
    taken = [unwrap(content, entry) for content in contents]
    for each in taken:
        check_values(each.state_dict)
    places = {each.path for each in taken}
    if len(places) > 1:
        found = [
            f"{file.name}: {' '.join(each.path) or 'the file itself'}"
            for file, each in zip(source.files, taken, strict=True)
        ]
        hint = "Give the name of one that all of them have: --entry NAME."
        raise CheckpointError("rank files whose models lie in different entries.", found, hint)
    steps = [Step("open", did), *([Step("unwrap", taken[0].did)] if taken[0].did else [])]
    if source.kind == "ranks" and is_flattened(taken[0].state_dict):
        layout = find_layout(source.files[0].parent, like)
        state_dict, did = unflatten_ranks([each.state_dict for each in taken], layout)
        same = check_teacher(source.files[0], state_dict) if taken[0].path[-1:] == ("teacher",) else ""
        steps.append(Step("merge", "; ".join(filter(None, (did, same)))))
    elif source.kind == "ranks":
        state_dict, did = merge_ranks([each.state_dict for each in taken])
        steps.append(Step("merge", did))
    else:
        state_dict = taken[0].state_dict
    check_whole(state_dict, CONSOLIDATE)
    return state_dict, steps, taken[0]
