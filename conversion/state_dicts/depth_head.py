"""DINOv2's depth head and its backbone, brought together into the one state dict that is converted."""

from torch import Tensor

from conversion.errors import CheckpointError, KeyMapError, concerning
from conversion.families.heads import DEPTH_HEAD
from conversion.families.shapes import DEPTH_MODELS, has_depth_head, has_each
from conversion.families.told import ToldStateDict
from conversion.mapping.key_map import Shapes, StateDict, shapes_of

DPT_ALONE = (
    "Take the authors' dinov2_*_dpt_head.pth. transformers has no class for their linear depth heads "
    "(dinov2_*_linear_head.pth, dinov2_*_linear4_head.pth)."
)


def merge_depth_head(state_dict: StateDict, depth_head: StateDict | None) -> StateDict:
    """One state dict of backbone and depth head, each under the prefix that the authors' model gives it.

    Raises:
        CheckpointError: it is no depth head that can be converted.
        KeyMapError: the backbone's file has a depth head of its own.
    """
    if depth_head is None:
        return state_dict
    with concerning("the depth head's file"):
        if not is_depth_head(shapes_of(depth_head)):
            raise CheckpointError("it holds no DPT head.", [*shapes_of(depth_head)], DPT_ALONE)
    if has_depth_head(shapes_of(state_dict)):
        raise KeyMapError("The checkpoint has a depth head of its own.", hint="Leave --depth-head out.")
    merged: dict[str, Tensor] = DEPTH_HEAD.join(state_dict, depth_head)
    if isinstance(state_dict, ToldStateDict):
        return ToldStateDict(merged, state_dict.told, state_dict.writer, state_dict.labels)
    return merged


def is_depth_head(shapes: Shapes) -> bool:
    """Whether these are the keys of a DPT head of DINOv2's authors, and of nothing else."""
    return has_each(shapes, DEPTH_MODELS[1][1:]) and all(key.startswith(DEPTH_HEAD.prefix) for key in shapes)


def refuse_depth_head(shapes: Shapes) -> None:
    """Refuse a depth head that is given as a model.

    Raises:
        CheckpointError: these are the keys of a depth head, and of nothing else.
    """
    if is_depth_head(shapes):
        hint = "Give it beside its backbone: vision-parity convert BACKBONE --depth-head THIS_FILE"
        raise CheckpointError("a depth head, and no model.", hint=hint)
