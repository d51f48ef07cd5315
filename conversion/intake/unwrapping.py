"""Where in a training run's checkpoint the model lies."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.base import families
from conversion.intake.opening import SAVE_ALONE
from conversion.intake.steps import take_off_prefixes

ENTRIES = (
    "teacher",
    "model_ema", "ema", "state_dict_ema", "ema_state_dict",
    "model", "model_state_dict", "module", "state_dict", "net",
    "student",
)  # fmt: skip
"""Entries that hold a model in a training run's checkpoint.

Where several do, the first of these is taken, unless the family of these models says otherwise.
"""

MAX_ENTRIES = 16
"""How deep entries are looked for in each other."""

MAX_KEY = 1_000
"""Characters of a tensor's name; longer ones fill a message and nothing else."""

MAX_LISTED = 20
"""Entries that are named in a record; of an optimizer's there may be thousands."""


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, and where it lay.

    Attributes:
        path: the entries that lead to it.
        other_models: entries on the way that hold a model too, and were not asked for.
        left: entries on the way that hold none.
    """

    state_dict: dict[str, Tensor]
    path: tuple[str, ...]
    other_models: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def choice(self) -> str:
        """What was taken, and what was not."""
        others = f"; not {' nor '.join(self.other_models)}, which holds a model too (--entry to choose)"
        return f"entry {_quote(self.path)} taken" + (others if self.other_models else "")

    @property
    def did(self) -> str:
        """In a line."""
        did = [self.choice] if self.path else []
        if self.left:
            listed = ", ".join(self.left[:MAX_LISTED]) + (", ..." if len(self.left) > MAX_LISTED else "")
            did.append(f"left out, no part of the model: {listed}")
        return "; ".join(did)


def unwrap(content: Any, entry: str | None = None) -> Unwrapped:
    """Take the state dict out of a training run's checkpoint: ``{"teacher": {...}}``, ``{"model": {...}}``.

    Of several models the one that their family takes by default is taken, else the first by :data:`ENTRIES`; a warning
    says so.

    Args:
        entry: the one to take, wherever it lies: its name, names joined by dots, or what its keys begin with.

    Raises:
        CheckpointError: there is no state dict in it, or one with values that are not tensors; or no such entry.
    """
    path: list[str] = []
    offered: list[str] = []
    other_models: list[str] = []
    left: list[str] = []
    wanted, content = entry, _part_models(content)
    while isinstance(content, dict):
        if len(path) > MAX_ENTRIES:
            raise CheckpointError(f"entries that lie more than {MAX_ENTRIES} deep in each other.", hint=SAVE_ALONE)
        name, rest = _look_up(content, wanted) if wanted else ("", None)
        if not name:
            name = _choose(content)
            if not name:
                break
            other_models += [repr(key) for key in ENTRIES if key != name and _holds_model(content.get(key))]
        else:
            wanted = rest
        offered += [str(key) for key, value in content.items() if _holds_model(value)]
        keys = {name, *(key for key in content if isinstance(key, str) and key.startswith(f"{name}."))}
        left += [_shorten(key) for key, value in content.items() if key not in keys and not _holds_model(value)]
        path.append(name)
        content = _part_models(_find(content, name))
    if wanted:
        raise CheckpointError(
            f"no entry {wanted!r} that holds a model.",
            [f"there is: {name}" for name in offered],
            "Give one of these, or leave it out." if offered else "Leave it out.",
        )
    state_dict = demand_state_dict(content, _quote(path))
    unwrapped = Unwrapped(state_dict, tuple(path), tuple(other_models), tuple(left))
    if other_models:
        warnings.warn(unwrapped.choice, stacklevel=2)
    return unwrapped


def _part_models(content: Any) -> Any:
    """A state dict of several models as an entry for each: ``teacher.backbone...`` beside ``student.backbone...``."""
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        return content
    names, _ = take_off_prefixes(content)
    models = {name.partition(".")[0] for name in names.values() if "." in name} & set(ENTRIES)
    if len(models) < 2 or models & content.keys():
        return content
    parted: dict[str, dict[str, Any]] = {}
    for key, name in names.items():
        model, _, rest = name.partition(".")
        parted.setdefault(model, {})[rest] = content[key]
    return parted


def _look_up(content: Mapping[Any, Any], wanted: str) -> tuple[str, str | None]:
    """Which entry here leads to the one that is wanted, and what of it is still wanted there; "" if none does."""
    if _find(content, wanted) is not None:
        return wanted, None
    head, _, rest = wanted.partition(".")
    return (head, rest) if rest and isinstance(content.get(head), dict) else ("", None)


def _find(content: Mapping[Any, Any], name: str) -> Any:
    """An entry by its name; or the tensors whose keys begin with it, without it; None if there are neither."""
    if name in content:
        return content[name] if isinstance(content[name], dict) else None
    return {
        key.removeprefix(f"{name}."): value
        for key, value in content.items()
        if isinstance(key, str) and key.startswith(f"{name}.")
    } or None


def _choose(content: Mapping[Any, Any]) -> str:
    """The entry that holds the model; "" if none does."""
    holding = [entry for entry in ENTRIES if _holds_model(content.get(entry))]
    if len(holding) > 1:
        return _find_default(content, holding) or holding[0]
    return holding[0] if holding else next((each for each in ENTRIES if isinstance(content.get(each), dict)), "")


def _find_default(content: Mapping[Any, Any], holding: Sequence[str]) -> str | None:
    """Of several entries that hold a model, the one that the family of these models takes by default."""
    shapes = {entry: _read_shapes(content[entry]) for entry in holding}
    found = [family for family in families() if any(map(family.matches, shapes.values()))]
    if len(found) != 1:
        return None
    defaults = found[0].default_entries
    return next((entry for entry in defaults if entry in shapes and found[0].matches(shapes[entry])), None)


def _read_shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the nearest tensors in an entry, by their names without what wrappers put before them."""
    tensors = {
        key: tensor
        for mapping in _find_nearest(value)
        for key, tensor in mapping.items()
        if isinstance(key, str) and isinstance(tensor, Tensor)
    }
    names, _ = take_off_prefixes(tensors)
    return {name: tuple(tensors[key].shape) for key, name in names.items()}


def _holds_model(value: Any) -> bool:
    """Whether there are tensors in it, under names, under at most so many entries in each other."""
    return bool(_find_nearest(value))


def _find_nearest(value: Any) -> list[dict[Any, Any]]:
    """The mappings nearest to the top that have tensors in them, at most so many entries deep."""
    level = [value]
    for _ in range(MAX_ENTRIES):
        mappings = [each for each in level if isinstance(each, dict)]
        if found := [each for each in mappings if any(isinstance(held, Tensor) for held in each.values())]:
            return found
        level = [mapping[entry] for mapping in mappings for entry in ENTRIES if entry in mapping][:MAX_ENTRIES]
    return []


def _shorten(key: object) -> str:
    if isinstance(key, str) and len(key) > MAX_KEY:
        return f"{key[:40]!r}... ({len(key):,} characters)"
    return repr(key) if isinstance(key, str | int) else f"a {type(key).__name__}"


def demand_state_dict(content: Any, where: str = "") -> dict[str, Tensor]:
    """Refuse what is no mapping of names to tensors.

    Raises:
        CheckpointError: naming what is found ``where`` in its place.
    """
    at = f"{where}: " if where else ""
    if not isinstance(content, dict) or not content:
        module = " (a pickled model: its code is needed to read it)" if _is_pickled_module(content) else ""
        raise CheckpointError(f"{at}holds no state dict, but {_describe(content)}{module}.", hint=SAVE_ALONE)
    problems = [f"{_shorten(key)}: {_describe(value)}" for key, value in content.items() if not _is_tensor(key, value)]
    if problems:
        entries = [str(key) for key, value in content.items() if _holds_model(value)]
        hint = f"A checkpoint may hold its state dict under one of: {', '.join(ENTRIES)}. {SAVE_ALONE}"
        if entries:
            hint = f"To take the model from an entry: --entry {' or --entry '.join(entries)}."
        count = f"{len(problems)} of {len(content)} entries are not tensors"
        raise CheckpointError(f"{at}not a state dict, {count}.", problems, hint)
    return dict(content)


def _is_pickled_module(content: Any) -> bool:
    state = getattr(content, "state", None)
    return isinstance(state, dict) and "_parameters" in state


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and len(key) <= MAX_KEY and isinstance(value, Tensor)


def _quote(path: Sequence[str]) -> str:
    return "".join(f"[{name!r}]" for name in path)


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = ", ".join(map(_shorten, list(value)[:5]))
        return f"a mapping with the entries {keys}{', ...' if len(value) > 5 else ''}" if value else "an empty mapping"
    return f"a {type(value).__qualname__}"
