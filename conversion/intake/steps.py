"""The steps of intake after a file is open: each takes a state dict, or what holds one, and says what it did.

What a step did is said in a line for the artifact's card; a step that found nothing to do says nothing.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.opening import SAVE_ALONE
from conversion.key_map import StateDict
from conversion.tensors import FLOATING

ENTRIES = (
    "teacher",
    "model_ema", "ema", "state_dict_ema", "ema_state_dict",
    "model", "model_state_dict", "module", "state_dict", "net",
    "student",
)  # fmt: skip
"""Entries that hold a model in a training run's checkpoint; where several do, the first of these is taken."""

PREFIXES = ("module.", "backbone.", "model.", "teacher.", "student.", "net.")
"""What wrappers and training codes put before every key. Where only some keys that are to be converted have it, it
stays: a backbone with heads beside it."""

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
"""What torch.compile, FSDP, activation checkpointing and Lightning put into keys, before any module that they wrap."""

HEADS = ("linear_head.",)
"""What may lie beside a backbone and does not keep its prefix on it."""

CHUNKED_BLOCK = re.compile(r"^blocks\.(\d+)\.(\d+)\.")
"""``blocks.<chunk>.<block>.``, as written with ``block_chunks > 0``; the block's index counts through all chunks."""


def unwrap(content: Any, entry: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Take the state dict out of a training run's checkpoint: ``{"teacher": {...}}``, ``{"model": {...}}``.

    Args:
        entry: the one to take, wherever it lies, by its name; or what all keys of the model begin with.

    Raises:
        CheckpointError: there is no state dict in it, or one with values that are not tensors; or no such entry.
    """
    path: list[str] = []
    passed_over: list[str] = []
    left: list[str] = []
    seen: list[str] = []
    wanted = entry
    visited: set[int] = set()
    while isinstance(content, Mapping):
        if id(content) in visited:
            raise CheckpointError(f"{_quote(path)}: holds itself.", hint=SAVE_ALONE)
        visited.add(id(content))
        level = _group(content)
        seen += [name for name in level if _holds_model(level[name])]
        name = wanted if wanted is not None and _find(level, wanted) is not None else _choose(level)
        if name is None:
            break
        if name == wanted:
            wanted = None
        else:
            passed_over += [other for other in ENTRIES if other != name and _holds_model(level.get(other))]
        left += [repr(other) for other in level if other not in (name, *passed_over)]
        path.append(name)
        content = _find(level, name)
    if wanted is not None:
        hint = "Give one of these, or leave it out." if seen else "Leave it out."
        raise CheckpointError(f"no entry {wanted!r} that holds a model.", [f"there is: {name}" for name in seen], hint)
    state_dict = _demand_state_dict(content, _quote(path))
    did = [f"entry {_quote(path)} taken"] if path else []
    if passed_over and entry is None:
        choice = f"not {' nor '.join(map(repr, passed_over))}, which holds a model too (--entry to choose)"
        did.append(choice)
        warnings.warn(f"Entry {_quote(path)} taken, {choice}.", stacklevel=2)
    if left:
        did.append(f"left out, no part of the model: {', '.join(left[:20])}{', ...' if len(left) > 20 else ''}")
    return state_dict, "; ".join(did)


def strip_prefixes(state_dict: StateDict, is_dropped: Callable[[str], object]) -> tuple[dict[str, Tensor], str]:
    """Take away what wrappers put into keys, and prefixes, each only where every key to be converted carries it.

    Args:
        is_dropped: whether a key is dropped by name, so that it need not carry them.

    Raises:
        CheckpointError: two keys become one.
    """
    stripped: list[str] = []
    renamed = {key: key for key in state_dict}
    for wrapper in WRAPPERS:
        if any(wrapper in name for name in renamed.values()):
            stripped.append(wrapper)
            renamed = {key: name.replace(wrapper, "") for key, name in renamed.items()}
    while prefix := next((each for each in PREFIXES if _all_carry(renamed.values(), each, is_dropped)), None):
        stripped.append(prefix)
        renamed = {key: name.removeprefix(prefix) for key, name in renamed.items()}
    did = f"{', '.join(map(repr, stripped))} taken off keys" if stripped else ""
    return _rename(state_dict, renamed, "without their prefixes"), did


def unchunk_blocks(state_dict: StateDict) -> tuple[dict[str, Tensor], str]:
    """Turn ``blocks.<chunk>.<block>.`` into ``blocks.<block>.``.

    Raises:
        CheckpointError: two keys become one.
    """
    chunked = {key: found for key in state_dict if (found := CHUNKED_BLOCK.match(key))}
    renamed = {key: CHUNKED_BLOCK.sub(r"blocks.\2.", key) for key in state_dict}
    num_chunks = len({found[1] for found in chunked.values()})
    did = f"blocks counted through {num_chunks} chunk(s)" if chunked else ""
    return _rename(state_dict, renamed, "with their blocks counted through"), did


def cast(state_dict: StateDict, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], str]:
    """Cast floating-point tensors; None leaves every tensor its own dtype.

    Raises:
        CheckpointError: values that are numbers would be none in the other dtype.
    """
    if dtype is None:
        return dict(state_dict), ""
    is_cast = {key: tensor.dtype in FLOATING and tensor.dtype != dtype for key, tensor in state_dict.items()}
    result = {key: tensor.to(dtype) if is_cast[key] else tensor for key, tensor in state_dict.items()}
    lost = [
        f"{key}: {float(state_dict[key].abs().max()):.3g}"
        for key, done in is_cast.items()
        if done and not result[key].isfinite().all() and state_dict[key].isfinite().all()
    ]
    if lost:
        raise CheckpointError(
            f"values too large for {dtype}.", lost, hint="Choose bfloat16, or leave them as they are."
        )
    before = sorted({str(state_dict[key].dtype) for key, done in is_cast.items() if done})
    return result, f"{sum(is_cast.values())} tensors cast from {', '.join(before)} to {dtype}" if before else ""


def demand_values(state_dict: StateDict) -> None:
    """Refuse tensors without values, and those that repeat the few that they have.

    Raises:
        CheckpointError: naming them.
    """
    problems = [f"{key}: on the meta device, which has no values" for key, each in state_dict.items() if each.is_meta]
    problems += [
        f"{key}: {tuple(tensor.shape)}, expanded from {tensor.untyped_storage().nbytes()} bytes"
        for key, tensor in state_dict.items()
        if tensor.layout == torch.strided and not tensor.is_meta and tensor.nbytes > tensor.untyped_storage().nbytes()
    ]
    if problems:
        raise CheckpointError("tensors whose values it does not hold.", problems, hint=SAVE_ALONE)


def _group(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A state dict of several models as an entry for each: ``teacher.backbone...`` beside ``student.backbone...``."""
    names = [key.partition(".")[0] for key in content if isinstance(key, str)]
    models = {name for name in names if name in ENTRIES}
    if len(names) != len(content) or len(models) < 2 or models & content.keys():
        return content
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        grouped.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value
    return grouped


def _find(content: Mapping[Any, Any], name: str) -> Any:
    """An entry by its name; or the tensors whose keys begin with it, without it."""
    if name in content:
        return content[name] if isinstance(content[name], Mapping) else None
    return {
        key.removeprefix(f"{name}."): value
        for key, value in content.items()
        if isinstance(key, str) and key.startswith(f"{name}.")
    } or None


def _choose(content: Mapping[Any, Any]) -> str | None:
    holding = [entry for entry in ENTRIES if _holds_model(content.get(entry))]
    return holding[0] if holding else next((each for each in ENTRIES if isinstance(content.get(each), Mapping)), None)


def _holds_model(value: Any) -> bool:
    """Whether there are tensors in it, under names, at any depth of entries."""
    visited: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, Mapping) or id(value) in visited:
            continue
        visited.add(id(value))
        if any(isinstance(each, Tensor) for each in value.values()):
            return True
        waiting += [value.get(entry) for entry in ENTRIES]
    return False


def _demand_state_dict(content: Any, where: str) -> dict[str, Tensor]:
    at = f"{where}: " if where else ""
    if not isinstance(content, Mapping) or not content:
        module = " (a pickled model: its code is needed to read it)" if _is_pickled_module(content) else ""
        raise CheckpointError(f"{at}holds no state dict, but {_describe(content)}{module}.", hint=SAVE_ALONE)
    problems = [f"{key!r}: {_describe(value)}" for key, value in content.items() if not _is_tensor(key, value)]
    if problems:
        raise CheckpointError(
            f"{at}not a state dict, {len(problems)} of {len(content)} entries are not tensors.",
            problems,
            hint=f"A checkpoint may hold its state dict under one of: {', '.join(ENTRIES)}; or choose with --entry.",
        )
    return dict(content)


def _is_pickled_module(content: Any) -> bool:
    state = getattr(content, "state", None)
    return isinstance(state, dict) and "_parameters" in state


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _all_carry(names: Iterable[str], prefix: str, is_dropped: Callable[[str], object]) -> bool:
    converted = [name for name in names if not is_dropped(name) and not name.startswith(HEADS)]
    return bool(converted) and all(name.startswith(prefix) for name in converted)


def _rename(state_dict: StateDict, renamed: Mapping[str, str], how: str) -> dict[str, Tensor]:
    sources: dict[str, list[str]] = {}
    for key, name in renamed.items():
        sources.setdefault(name, []).append(key)
    problems = [f"{name}: {' and '.join(keys)}" for name, keys in sources.items() if len(keys) > 1]
    if problems:
        raise CheckpointError(f"several keys are the same {how}.", problems, hint=SAVE_ALONE)
    return {renamed[key]: tensor for key, tensor in state_dict.items()}


def _quote(path: list[str]) -> str:
    return "".join(f"[{name!r}]" for name in path)


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        keys = ", ".join(map(repr, list(value)[:5]))
        return f"a mapping with the entries {keys}{', ...' if len(value) > 5 else ''}" if value else "an empty mapping"
    return f"a {type(value).__qualname__}"
