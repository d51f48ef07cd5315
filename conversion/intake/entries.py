"""Which entries of a training run's checkpoint hold a model, and which of several is taken."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.base import Family, families
from conversion.intake.steps import take_off_prefixes

ENTRIES = (
    "teacher",
    "model_ema", "ema", "state_dict_ema", "ema_state_dict",
    "model", "model_state_dict", "module", "state_dict", "net",
    "student",
)  # fmt: skip
"""Entries that hold a model in a training run's checkpoint, whatever its keys."""

TEACHER, AVERAGED, PLAIN, STUDENT = range(4)
"""What a model is in its training, in the order in which models are taken."""

WORDS: Mapping[str, int] = {
    **dict.fromkeys(("teacher", "target", "momentum"), TEACHER),
    **dict.fromkeys(("ema", "swa", "averaged", "average", "avg", "shadow", "polyak"), AVERAGED),
    **dict.fromkeys(("student", "online"), STUDENT),
}
"""Words in the name of an entry or a prefix that say what its model is; any other is a plain one."""

STATES = frozenset({"optimizer", "optimizers", "optimizer_states", "optim", "optim_state_dict", "scheduler", "grads"})
"""Entries with tensors that have the names of a model's, and are none."""

MAX_ENTRIES = 16
"""How deep entries are looked for in each other."""

MAX_LOOKED_INTO = 10_000
"""Mappings that are looked into for tensors; of an optimizer's state there may be more."""

TOO = "which also holds a model"

EXCHANGED: Mapping[str, tuple[str, str]] = {
    "message_hub": ("ema_state_dict", "mmengine exchanges them with the averaged ones as it saves"),
    "averaging_state": ("current_model_state", "Lightning's WeightAveraging puts the averaged ones into 'state_dict'"),
}
"""Of codes that save the average as ``state_dict``: an entry that shows it, where the raw weights are, and why."""


def rank_name(name: str) -> int:
    """What the model of an entry or prefix is, by the words in its name."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return min((WORDS[word] for word in words if word in WORDS), default=PLAIN)


class Model(NamedTuple):
    """An entry that holds a model.

    Attributes:
        order: the lowest is taken first.
        reason: what is said of it where it is not taken.
    """

    name: str
    order: tuple[int, ...]
    reason: str


def list_models(content: Mapping[Any, Any]) -> list[Model]:
    """The entries that hold a model, in the order in which they are taken.

    A model is what has tensors with the keys of a known family; or, under a name of :data:`ENTRIES`, any. The one that
    its family takes by default is first. Else teacher and averaged ones come before plain ones.
    """
    found = {name: list_families(value) for name, value in content.items() if _may_hold_model(name, value)}
    names = [name for name, of in found.items() if of or (name in ENTRIES and find_nearest(content[name]))]
    ranks = {name: rank_name(name) for name in names}
    reasons: dict[str, str] = {}
    for sign, (raw, why) in EXCHANGED.items():
        if sign in content and {"state_dict", raw} <= ranks.keys():
            ranks |= {"state_dict": AVERAGED, raw: PLAIN}
            reasons[raw] = f"which holds the raw weights: {why}"
    defaults = _list_defaults(found)

    def order(name: str) -> tuple[int, ...]:
        by_default = defaults.index(name) if name in defaults else len(defaults)
        return by_default, not found[name], ranks[name], ENTRIES.index(name) if name in ENTRIES else len(ENTRIES)

    return sorted((Model(name, order(name), reasons.get(name, TOO)) for name in names), key=lambda model: model.order)


def choose_entry(content: Mapping[Any, Any], models: Sequence[Model], path: Sequence[str] = ()) -> str:
    """The entry that is taken; "" where none holds a model.

    Args:
        path: the entries that led here.

    Raises:
        CheckpointError: nothing says which of several it is.
    """
    if not models:
        return next((name for name in ENTRIES if isinstance(content.get(name), dict)), "")
    equal = [model.name for model in models if model.order == models[0].order]
    if len(equal) > 1:
        headline = f"{len(equal)} entries hold a model, and nothing says which is meant."
        options = [f"--entry {'.'.join([*path, name])}" for name in equal]
        raise CheckpointError(headline, options, "Give one of these options.")
    return models[0].name


def find_nearest(value: Any) -> list[dict[Any, Any]]:
    """The mappings nearest to the top that have tensors in them, at most so many entries deep."""
    level, seen = [value], set[int]()
    for _ in range(MAX_ENTRIES):
        mappings = [each for each in level if isinstance(each, dict)]
        if found := [each for each in mappings if any(isinstance(held, Tensor) for held in each.values())]:
            return found
        seen |= {id(mapping) for mapping in mappings}
        level = [inner for mapping in mappings for inner in mapping.values() if id(inner) not in seen]
        level = level[:MAX_LOOKED_INTO]
    return []


def group_keys(keys: Iterable[str], taken: str) -> dict[str, list[str]]:
    """Keys that lie outside of a prefix, by the modules that lead to where each parts from it.

    A group that is a module's ends in a dot; one of a single key is that key.
    """
    groups: dict[str, list[str]] = {}
    path = taken.split(".")
    for key in keys:
        parts = key.split(".")
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts[:-1], path, strict=False)))
        group = ".".join(parts[: common + 1])
        groups.setdefault(group + "." if common + 1 < len(parts) else group, []).append(key)
    return {keys[0] if len(keys) == 1 else group: keys for group, keys in groups.items()}


def describe_group(group: str, keys: Sequence[str]) -> str:
    """A group of keys, as a message names it."""
    return repr(group) if len(keys) == 1 else f"{group!r} ({count_tensors(len(keys))}, as {keys[0]})"


def count_tensors(count: int) -> str:
    """So many tensors, in words."""
    return f"{count:,} tensor{'' if count == 1 else 's'}"


def _may_hold_model(name: object, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, dict) and name not in STATES


def list_families(value: Any) -> list[Family[Any]]:
    """The families whose keys the nearest tensors in an entry have, without what wrappers put before them."""
    tensors = {
        key: tensor
        for mapping in find_nearest(value)
        for key, tensor in mapping.items()
        if isinstance(key, str) and isinstance(tensor, Tensor)
    }
    names, _ = take_off_prefixes(tensors)
    shapes = {name: tuple(tensors[key].shape) for key, name in names.items()}
    return [family for family in families() if family.matches(shapes)]


def _list_defaults(found: Mapping[str, Collection[Family[Any]]]) -> Sequence[str]:
    """The entries that the models' families take first, where all take the same: those of them that hold a model."""
    of = {family.training.default_entries for each in found.values() for family in each}
    return [name for name in of.pop() if found.get(name)] if len(of) == 1 else []
