"""Where an exported model is looked at, and what its graph calls what it returns."""

from collections.abc import Sequence

from conversion.parity.off import RETURNED
from conversion.parity.points import CapturePoint, Stage, read_place


def select_stages(stages: Sequence[Stage]) -> list[Stage]:
    """Select where an exported model is looked at: embeddings, the end of every stage, what is returned.

    Runtimes fuse what lies within a block; to look there would keep them from it. The pixels are the input itself, and
    tensors without a part in the outputs are in no graph.
    """
    selected = [
        Stage(stage.name, tuple(point for point in stage.points if _is_end(stage, point)))
        for stage in stages
        if stage.name not in ("pixels", "unused")
    ]
    return [stage for stage in selected if stage.points]


def _is_end(stage: Stage, point: CapturePoint) -> bool:
    return point.name == stage.name or point.name.startswith(RETURNED)


def name_output(point: CapturePoint) -> str:
    """What the graph calls a value that the model returns: ``last_hidden_state``, ``feature_maps.2``."""
    place = read_place(point.hf)
    return place.item if place.index is None else f"{place.item}.{place.index}"
