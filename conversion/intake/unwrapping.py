"""Where in a training run's checkpoint the model lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.budget import RESAVE
from conversion.intake.entries import (
    ENTRIES,
    MAX_ENTRIES,
    TOO,
    Model,
    choose_entry,
    count_tensors,
    describe_group,
    group_keys,
    list_families,
    list_models,
)
from conversion.intake.opening import list_tensors
from conversion.intake.steps import COUNTERS, take_off_prefixes

MAX_KEY = 1_000
"""Characters of a tensor's name; longer ones fill a message and nothing else."""

MAX_LISTED = 20
"""Entries that are named in a record; of an optimizer's there may be thousands."""


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, and where it lay.

    Attributes:
        path: the entries that lead to it.
        other_models: entries on the way that hold a model, too, each with what is said of it.
        other_tensors: what else on the way holds tensors.
        left: entries on the way that hold none.
        is_chosen: one of several models was taken that nobody asked for.
    """

    state_dict: dict[str, Tensor]
    path: tuple[str, ...]
    other_models: tuple[str, ...] = ()
    other_tensors: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    is_chosen: bool = False

    @property
    def choice(self) -> str:
        """What was taken, and what was not."""
        others = f"; not {', nor '.join(self.other_models)}" if self.other_models else ""
        return f"entry {_quote(self.path)} taken{others}{' (--entry to choose)' if self.is_chosen else ''}"

    @property
    def did(self) -> str:
        """In a line."""
        did = [self.choice] if self.path else []
        did += [f"left out, no model of a known family: {_list(self.other_tensors)}"] if self.other_tensors else []
        return "; ".join(did + ([f"left out, no part of the model: {_list(self.left)}"] if self.left else []))


def unwrap(content: Any, entry: str | None = None) -> Unwrapped:
    """Take the state dict out of a training run's checkpoint: ``{"teacher": {...}}``, ``{"model": {...}}``.

    Of several models the first of :func:`conversion.intake.entries.list_models` is taken.

    Args:
        entry: the one to take, wherever it lies: its name, names joined by dots, or what its keys begin with.

    Raises:
        CheckpointError: there is no state dict in it, or one with values that are not tensors; there is no such entry;
            or several hold a model, and nothing says which is meant.
    """
    levels: list[_Level] = []
    wanted, content = entry, _split_models(content)
    while isinstance(content, dict):
        path = [level.name for level in levels]
        if len(path) > MAX_ENTRIES:
            raise CheckpointError(f"entries that lie more than {MAX_ENTRIES} deep in each other.", hint=RESAVE)
        models = list_models(content)
        name, rest = _look_up(content, wanted) if wanted else ("", None)
        if name:
            wanted, is_asked_for = rest, True
        else:
            name, is_asked_for = choose_entry(content, models, path), False
        if not name:
            break
        levels.append(_descend(content, name, models, is_asked_for=is_asked_for))
        content = levels[-1].content
    if wanted:
        offered = [f"there is: {model.name}" for level in levels for model in level.models]
        hint = "Give one of these, or leave --entry out." if offered else "Leave --entry out."
        raise CheckpointError(f"no entry {wanted!r} that holds a model.", offered, hint)
    path = [level.name for level in levels]
    state_dict = check_state_dict(content, _quote(path), lambda: _suggest_entry(content, path))
    return Unwrapped(
        state_dict,
        tuple(path),
        tuple(chain.from_iterable(level.other_models for level in levels)),
        tuple(chain.from_iterable(level.other_tensors for level in levels)),
        tuple(chain.from_iterable(level.left for level in levels)),
        is_chosen=any(level.is_chosen for level in levels),
    )


@dataclass(frozen=True)
class _Level:
    """A step from a checkpoint, or an entry of it, into the entry ``name``; what is in that, and what lies beside.

    Attributes:
        models: all that were offered here.
        is_chosen: whether there were others to choose, and nobody asked for this one.
    """

    name: str
    content: Any
    models: list[Model]
    other_models: list[str]
    other_tensors: list[str]
    left: list[str]
    is_chosen: bool


def _descend(content: dict[Any, Any], name: str, models: list[Model], *, is_asked_for: bool) -> _Level:
    found, taken = _find(content, name)
    others = [model for model in models if model.name not in taken]
    beside = {key: value for key, value in content.items() if key not in {*taken, *(each.name for each in others)}}
    models_beside, tensors_beside, left = _describe_beside(beside, name)
    return _Level(
        name,
        _split_models(found),
        models,
        [*(f"{model.name!r}, {model.reason}" for model in others), *models_beside],
        tensors_beside,
        left,
        is_chosen=not is_asked_for and bool(others or models_beside),
    )


def _split_models(content: Any) -> Any:
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
    if _find(content, wanted)[0] is not None:
        return wanted, None
    head, _, rest = wanted.partition(".")
    return (head, rest) if rest and isinstance(content.get(head), dict) else ("", None)


def _find(content: Mapping[Any, Any], name: str) -> tuple[Any, set[Any]]:
    """An entry by its name, or the tensors whose keys begin with it, without it; and the keys that were found.

    Keys may begin with it as they are, or without what wrappers put before it. None if there is no such thing.
    """
    if name in content:
        return (content[name] if isinstance(content[name], dict) else None), {name}
    keys = [key for key in content if isinstance(key, str)]
    for names in ({key: key for key in keys}, take_off_prefixes(keys, COUNTERS.__contains__)[0]):
        found = {key: each.removeprefix(f"{name}.") for key, each in names.items() if each.startswith(f"{name}.")}
        if found:
            return {rest: content[key] for key, rest in found.items()}, set(found)
    return None, set()


def _suggest_entry(content: Mapping[Any, Any], path: Sequence[str]) -> str:
    """Name what the keys of a known model begin with, where these lie flat among other values, as the entry to take."""
    prefixes = dict.fromkeys(key.partition(".")[0] for key in content if isinstance(key, str) and "." in key)
    prefix = next((each for each in prefixes if list_families(_find(content, each)[0])), "")
    return f"Give --entry {'.'.join([*path, prefix])}: a model's keys begin with that." if prefix else RESAVE


def _describe_beside(beside: Mapping[Any, Any], name: str) -> tuple[list[str], list[str], list[str]]:
    """What lies beside the entry that is taken: models of tensors without an entry, other tensors, and the rest."""
    models, with_tensors, rest = list[str](), list[str](), list[str]()
    direct = [key for key, value in beside.items() if isinstance(key, str) and isinstance(value, Tensor)]
    for group, keys in group_keys(direct, f"{name}.").items():
        is_model = list_families({key: beside[key] for key in keys})
        described = describe_group(group, keys)
        models += [f"{described}, {TOO}"] if is_model else []
        with_tensors += [] if is_model else [described]
    for key in [key for key in beside if key not in direct]:
        if count := sum(1 for _ in list_tensors(beside[key])):
            with_tensors.append(f"{_shorten(key)} ({count_tensors(count)})")
        else:
            rest.append(_shorten(key))
    return models, with_tensors, rest


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")


def _shorten(key: object) -> str:
    if isinstance(key, str) and len(key) > MAX_KEY:
        return f"{key[:40]!r}... ({len(key):,} characters)"
    return repr(key) if isinstance(key, str | int) else f"a {type(key).__name__}"


def check_state_dict(content: Any, where: str = "", suggest: Callable[[], str] = lambda: RESAVE) -> dict[str, Tensor]:
    """Refuse what is no mapping of names to tensors.

    Args:
        suggest: called for the way out, where not all entries are tensors.

    Raises:
        CheckpointError: naming what is found ``where`` in its place.
    """
    at = f"{where}: " if where else ""
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{at}holds no state dict, but {_describe(content)}.", hint=RESAVE)
    problems = [f"{_shorten(key)}: {_describe(value)}" for key, value in content.items() if not _is_tensor(key, value)]
    if problems:
        count = f"{len(problems)} of {len(content)} entries are not tensors under a name"
        raise CheckpointError(f"{at}not a state dict, {count}.", problems, suggest())
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
    name = type(value).__qualname__
    module = " (a pickled model: its code is needed to read it)" if _is_pickled_module(value) else ""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}{module}"
