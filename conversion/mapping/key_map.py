"""The engine of every key map: a map is data, and everything else is derived from it.

A key map is a table from the original's keys to the target's::

    {"blocks.{}.attn.qkv.weight": ("layer.{}.query.weight", "layer.{}.key.weight", "layer.{}.value.weight"),
     "norm.weight":                "layernorm.weight"}

``{}`` stands for the block index. A text renames; a tuple splits the tensor into equal parts by rows, in this order. An
empty text is a part that the target has no place for: the whole tensor is kept beside the model.
The table is read in both directions: :func:`convert` left to right, :func:`restore` right to left.
"""

import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from conversion.errors import KeyMapError
from conversion.mapping.tensors import describe_unusable, fuse_rows, split_rows


class WithAxis(str):
    """A target key whose tensor has an axis of length 1 before those of the original's."""

    __slots__ = ()


KeyMap = Mapping[str, str | tuple[str, ...]]
ExpandedKeyMap = Mapping[str, tuple[str, ...]]
Shapes = Mapping[str, tuple[int, ...]]
StateDict = Mapping[str, Tensor]


def expand(key_map: KeyMap, depth: int) -> dict[str, tuple[str, ...]]:
    """Write the table out for ``depth`` blocks: original key to the target keys its parts go to.

    Raises:
        KeyMapError: two entries produce the same target key.
    """
    expanded: dict[str, tuple[str, ...]] = {}
    for source, target in key_map.items():
        targets = (target,) if isinstance(target, str) else target
        for index in range(depth) if "{}" in source else (None,):
            expanded[source.format(index)] = tuple(type(name)(name.format(index)) for name in targets)
    counts = Counter(name for targets in expanded.values() for name in targets if name)
    colliding = [
        f"{name}: produced by {', '.join(source for source, targets in expanded.items() if name in targets)}"
        for name, count in counts.items()
        if count > 1
    ]
    if colliding:
        raise KeyMapError("The key map sends several tensors to one key.", colliding)
    return expanded


def add_parameters(modules: KeyMap) -> dict[str, str | tuple[str, ...]]:
    """Turn a table of modules into one of tensors: each module has a weight and a bias, under the same names."""
    return {
        source + name: target + name if isinstance(target, str) else tuple(part + name for part in target)
        for source, target in modules.items()
        for name in (".weight", ".bias")
    }


def shapes_of(state_dict: StateDict) -> dict[str, tuple[int, ...]]:
    """Key to shape."""
    return {key: tuple(tensor.shape) for key, tensor in state_dict.items()}


def list_unplaced(expanded: ExpandedKeyMap) -> list[str]:
    """List the original's keys that the target has no place for, or not for all of their parts."""
    return [source for source, targets in expanded.items() if "" in targets]


def list_placed(expanded: ExpandedKeyMap) -> set[str]:
    """Collect every target key."""
    return {name for targets in expanded.values() for name in targets if name}


def add_prefix(prefix: str, target: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """A row's target with a prefix before each of its keys."""
    return prefix + target if isinstance(target, str) else tuple(prefix + name for name in target)


def drop(state_dict: StateDict, dropped: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Part a state dict into what is converted and what is dropped by name.

    Args:
        dropped: shell-style pattern to the reason.

    Returns:
        the tensors kept, and for every other key the reason it was dropped for.
    """
    reasons = {key: reason for key in state_dict if (reason := find_reason(key, dropped))}
    return {key: tensor for key, tensor in state_dict.items() if key not in reasons}, reasons


def find_reason(key: str, dropped: Mapping[str, str]) -> str | None:
    """Why this key is dropped by name; None if it is not."""
    return next((reason for pattern, reason in dropped.items() if fnmatch.fnmatchcase(key, pattern)), None)


# what a problem says of itself, and the way out
REMEDIES = {
    "missing: ":    "A model is converted whole: give a file that has what is missing, too.",
    "unexpected: ": "Nothing is left out silently: take it out of the file, if it is no part of the model.",
    "wrong shape":  "Its other tensors, or the variant that was named, determine the expected shapes: give the tensors "
                    "of one model, as they were saved.",
    "integers (":   "Integers are weights only together with the scales of their quantization: give the checkpoint "
                    "that was quantized, or dequantize the model where it was made.",
    "not a dense":  "Save its weights as dense tensors of float32, bfloat16 or float16.",
    "wrong dtype":  "Save these tensors in the dtype that is expected.",
    "NaN or Inf":   "Either its training has diverged or the file is damaged: take another.",
}  # fmt: skip


def check_complete(state_dict: StateDict, expected: StateDict, *, subject: str) -> None:
    """Check that a state dict has the expected keys, shapes and kinds of dtypes, no others, and usable values.

    Args:
        state_dict: what there is.
        expected: what must be there; its tensors may be on the meta device. Any floating dtype stands for any other,
            an integer one for itself.
        subject: what is checked, as the message should call it.

    Raises:
        KeyMapError: with every missing, unexpected, misshapen or unusable tensor in it.
    """
    problems = [f"missing: {key} {tuple(expected[key].shape)}" for key in expected if key not in state_dict]
    problems += [f"unexpected: {key} {tuple(state_dict[key].shape)}" for key in state_dict if key not in expected]
    weights = {}
    for key in [key for key in state_dict if key in expected]:
        found, wanted = tuple(state_dict[key].shape), tuple(expected[key].shape)
        if found != wanted:
            transposed = " (transposed?)" if found == wanted[::-1] else ""
            problems.append(f"wrong shape: {key} is {found}, expected {wanted}{transposed}")
        if expected[key].is_floating_point():
            weights[key] = state_dict[key]
        elif (state_dict[key].dtype, state_dict[key].layout) != (expected[key].dtype, torch.strided):
            found_kind = f"{state_dict[key].dtype}, {state_dict[key].layout}"
            problems.append(f"wrong dtype: {key} is {found_kind}, expected a dense {expected[key].dtype}")
    problems += describe_unusable(weights)
    if problems:
        hints = [remedy for sign, remedy in REMEDIES.items() if any(sign in problem for problem in problems)]
        raise KeyMapError(f"{subject}: {len(problems)} problem(s) with its tensors.", problems, " ".join(hints))


def convert(state_dict: StateDict, expanded: ExpandedKeyMap) -> dict[str, Tensor]:
    """Rename and split. Every tensor of the result is the input's own, or a view of it.

    Raises:
        KeyMapError: a key of the state dict is not in the table, or the other way round.
    """
    problems = [f"not in the key map: {key}" for key in state_dict if key not in expanded]
    problems += [f"missing: {key}" for key in expanded if key not in state_dict]
    if problems:
        raise KeyMapError("The state dict has other keys than its key map.", problems)
    return {
        name: part[None] if isinstance(name, WithAxis) else part
        for source, targets in expanded.items()
        for name, part in zip(targets, split_rows(state_dict[source], len(targets)), strict=True)
        if name
    }


def restore(
    state_dict: StateDict, expanded: ExpandedKeyMap, beside: StateDict = MappingProxyType({})
) -> dict[str, Tensor]:
    """The inverse of :func:`convert`, from the same table: what was split is fused again.

    Args:
        beside: the original's tensors that were kept beside the model. Of one that is absent, what has no place is
            lost: zeros stand for it, and a tensor without any place is left out.

    Raises:
        KeyMapError: a key of the state dict is not a target of the table, or the other way round.
    """
    return {source: fuse_rows(parts) for source, parts in list_parts(state_dict, expanded, beside)}


def list_parts(
    state_dict: StateDict, expanded: ExpandedKeyMap, beside: StateDict = MappingProxyType({})
) -> Iterator[tuple[str, list[Tensor]]]:
    """As :func:`restore`, key by key, but what was split is left so: its parts, from the first row to the last."""
    targets = list_placed(expanded)
    problems = [f"unexpected: {key}" for key in state_dict if key not in targets]
    problems += [f"missing: {key}" for key in sorted(targets) if key not in state_dict]
    if problems:
        raise KeyMapError("The converted state dict has other keys than its config tells.", problems)
    return (
        (source, _gather(names, state_dict, beside.get(source)))
        for source, names in expanded.items()
        if any(names) or source in beside
    )


def _gather(names: Sequence[str], state_dict: StateDict, whole: Tensor | None) -> list[Tensor]:
    """The parts of an original tensor; those without a place are cut from it as it was kept, or zeros."""
    placed = {name: _take_axis(name, state_dict[name]) for name in names if name}
    if whole is None and len(placed) == len(names):
        return list(placed.values())
    if whole is None:
        kept = (torch.zeros_like(next(iter(placed.values()))),) * len(names)
    else:
        kept = tuple(split_rows(whole, len(names)))
    return [placed[name] if name else part for name, part in zip(names, kept, strict=True)]


def _take_axis(name: str, tensor: Tensor) -> Tensor:
    """A target's tensor with the original's axes; one that has others stays, to be found out afterwards."""
    return tensor[0] if isinstance(name, WithAxis) and tensor.ndim and len(tensor) == 1 else tensor
