"""A linear classifier that stands apart from its backbone: which heads a file holds, and which of them fit.

Source: ``dinov2/hub/classifiers.py`` (one head on one layer or four) and ``dinov2/eval/linear.py`` (many, by name) in
facebookresearch/dinov2. transformers' classifier takes the last layer's CLS token joined with the mean of its patches.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.told import Told, ToldStateDict
from conversion.mapping.key_map import Shapes

HEAD_PREFIX = "linear_head."
"""Where the tensors of a separate linear head go in the one state dict that is converted."""

WEIGHT = f"{HEAD_PREFIX}weight"

# of the heads that the authors' linear evaluation trains side by side
NAMED = re.compile(r"(classifier_(\d+)_blocks_avgpool_(True|False)\w*)")
# "linear." is of the authors' LinearClassifier
SOLE = re.compile(r"^(?:linear_head\.)?(?:linear\.)?(?=weight$|bias$)")

BY_NAME = "the linear head's name"
"""Who tells what a head takes; files beside a head's file tell of models."""

FOUR_LAYERS = (
    "Take the one without a 4 in its name: dinov2_*_linear_head.pth, not dinov2_*_linear4_head.pth; in torch.hub "
    "dinov2_*_lc, not dinov2_*_lc4."
)
CHOOSE = (
    "Choose one: --linear-head-entry NAME (in Python: convert(..., linear_head_entry=NAME)). The evaluation's "
    "results_eval_linear.json names the best."
)


@dataclass(frozen=True)
class LinearHead:
    """One of a file's linear heads.

    Attributes:
        name: in a file of several; empty in a file of one.
        tensors: ``weight`` ``(num_classes, width)`` and ``bias``, and whatever else there is.
        num_layers, has_mean: whose CLS tokens it takes, and whether the patches' mean; None where no name tells.
    """

    name: str
    tensors: Mapping[str, Tensor]
    num_layers: int | None = None
    has_mean: bool | None = None


def list_heads(tensors: Mapping[str, Tensor]) -> dict[str, LinearHead]:
    """List the linear heads of a file, by name; the only head of a file has an empty name."""
    parted: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = NAMED.search(key)
        name = found[1] if found else ""
        rest = key[found.end() :].removeprefix(".") if found else key
        parted.setdefault(name, {})[SOLE.sub("", rest)] = tensor
    return {name: _build_head(name, own) for name, own in parted.items()}


def _build_head(name: str, tensors: Mapping[str, Tensor]) -> LinearHead:
    found = NAMED.fullmatch(name)
    return LinearHead(name, tensors, int(found[2]), found[3] == "True") if found else LinearHead(name, tensors)


def choose_head(tensors: Mapping[str, Tensor], width: int, entry: str | None = None) -> ToldStateDict:
    """Choose the linear head of a file that goes with a backbone, as ``weight`` and ``bias``.

    Args:
        width: of the backbone's tokens.
        entry: of a file of several heads, the name of the one to take.

    Returns:
        its tensors, and ``global_pool`` where its name tells that it takes the CLS token alone.

    Raises:
        CheckpointError: there are several and none was chosen, there is no such one, or it does not fit.
    """
    heads = list_heads(tensors)
    found = NAMED.search(entry or "")
    name = found[1] if found else entry or next(iter(heads), "")
    if entry and name not in heads:
        listed = _list_fitting(heads, width) if any(heads) else ["it holds one head, without a name"]
        hint = "Give one of these names." if any(heads) else "Leave --linear-head-entry out."
        raise CheckpointError(f"holds no linear head {entry!r}.", listed, hint)
    if len(heads) > 1 and not entry:
        raise CheckpointError(f"holds {len(heads)} linear heads.", _list_fitting(heads, width), CHOOSE)
    head = heads.get(name, LinearHead("", {}))
    misfit, hint = find_misfit(head, width)
    if misfit:
        others = _list_fitting(heads, width) if len(heads) > 1 else []
        if hint == CHOOSE and all(find_misfit(each, width)[0] for each in heads.values()):
            hint = "Give a head that was trained on one layer."
        raise CheckpointError(f"{head.name or 'a linear head'} {misfit}.", others, hint)
    told = {key: each for key, each in getattr(tensors, "told", {}).items() if each.by.startswith(BY_NAME)}
    if head.has_mean is False:
        told["global_pool"] = Told("token", f"{BY_NAME}, {name}")
    return ToldStateDict(head.tensors, told)


def _list_fitting(heads: Mapping[str, LinearHead], width: int) -> list[str]:
    """List the heads that fit, a line each, and count those that do not."""
    fitting = [head for head in heads.values() if not find_misfit(head, width)[0]]
    lines = [f"{head.name} {tuple(head.tensors['weight'].shape)}" for head in fitting if "weight" in head.tensors]
    others = len(heads) - len(lines)
    return [*lines, *([f"{others} more, which transformers' classifier cannot take"] if others else [])]


def find_misfit(head: LinearHead, width: int) -> tuple[str, str]:
    """Find why a head does not fit tokens of this width, and the way out; empty where it does, or it is not known.

    It fits the last layer's CLS token joined with the mean of the patches ``(num_classes, 2 * width)``, or one of both
    alone ``(num_classes, width)``.
    """
    weight = head.tensors.get("weight")
    if weight is None or weight.ndim != 2:
        return "", ""  # the check of all keys says so
    shape, columns = tuple(weight.shape), weight.shape[1]
    if head.num_layers is not None:
        expected = width * (head.num_layers + bool(head.has_mean))
        if columns != expected:
            return f"{shape} is of another backbone: on this one's tokens it would be {expected} wide", OTHER_BACKBONE
        if head.num_layers > 1:
            return f"{shape} is made for {head.num_layers} layers; transformers' classifier takes one", CHOOSE
        return "", ""
    if columns in (width, 2 * width):
        return "", ""
    if columns == 5 * width:  # four CLS tokens, and the mean of the patches
        made = "is made for four layers (torch.hub: dinov2_*_lc4); transformers' classifier takes one"
        return f"{shape} {made}", FOUR_LAYERS
    wanted = f"{2 * width} wide, of CLS token and mean of patches, or {width}, of one of them"
    return f"{shape} does not fit this backbone: on its tokens it would be {wanted}", OTHER_BACKBONE


OTHER_BACKBONE = "Give the head that was trained on this backbone, or the backbone that this head was trained on."


def are_heads(keys: Collection[str]) -> bool:
    """Whether these are the keys of linear heads, and of nothing else."""
    names = {NAMED.sub("", key).removeprefix("module.").removeprefix("classifiers_dict.").lstrip(".") for key in keys}
    return bool(keys) and {SOLE.sub("", name) for name in names} <= {"weight", "bias"}


def refuse_head(shapes: Shapes) -> None:
    """Refuse a linear head that is given as a model.

    Raises:
        CheckpointError: these are the shapes of linear heads, and of nothing else.
    """
    if not are_heads(shapes):
        return
    num_heads = len({found[1] for key in shapes if (found := NAMED.search(key))})
    widths = ", ".join(str(shape) for key, shape in shapes.items() if key.endswith("weight"))
    what = f"{num_heads} linear heads" if num_heads > 1 else f"a linear head {widths}"
    hint = "Give it beside its backbone: vision-parity convert BACKBONE --linear-head THIS_FILE"
    raise CheckpointError(f"{what}, and no model.", hint=f"{hint}{' --linear-head-entry NAME' * (num_heads > 1)}")


def is_of_one_vector(shapes: Shapes) -> bool:
    """Whether the linear head beside this backbone takes one vector, and not two joined."""
    head, token = shapes.get(WEIGHT, ()), shapes.get("cls_token", ())
    return len(head) == 2 and len(token) == 3 and head[1] == token[2]


def widen_head(state_dict: Mapping[str, Tensor], pooling: str) -> tuple[dict[str, Tensor], str]:
    """Widen a linear head on one vector to one on CLS token and mean of patches, by zeros for the other; and say so.

    A product with zero adds nothing, so that the logits are the same but for the order in which they are summed.

    Args:
        pooling: ``"token"`` or ``"avg"``: which of both the head takes.
    """
    weight = state_dict[WEIGHT]  # (C, D)
    halves = [weight, torch.zeros_like(weight)]
    widened = torch.cat(halves if pooling == "token" else halves[::-1], dim=1)  # (C, 2D)
    taken, other = ("CLS token", "mean of patches") if pooling == "token" else ("mean of patches", "CLS token")
    note = f"the linear head takes the {taken} alone: zeros stand for its weights on the {other}; restored, they stay"
    return {**state_dict, WEIGHT: widened}, note
