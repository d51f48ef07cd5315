"""The steps of intake on a state dict: each gives another one, and says what it did.

What a step did is said in a line for the artifact's card; a step that found nothing to do says nothing.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.budget import RESAVE
from conversion.intake.unpickling import StandInTensor
from conversion.mapping.key_map import StateDict
from conversion.mapping.tensors import FLOATING

PREFIXES = ("module.", "backbone.", "model.", "teacher.", "student.", "net.")
"""What wrappers and training codes put before every key. Where only some keys that are to be converted have it, it
stays: a backbone with heads beside it."""

WRAPPER = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""What torch.compile, FSDP, activation checkpointing and Lightning put into keys, before any module that they wrap."""

HEADS = ("linear_head.",)
"""What may lie beside a backbone and does not keep its prefix on it."""

COUNTERS = frozenset({"n_averaged", "steps", "initted", "step", "num_updates"})
"""What counts the updates of an average and lies beside its ``module.``: of torch's AveragedModel, of mmengine's, and
of other packages'. One number each."""

CHUNKED_BLOCK = re.compile(r"^blocks\.(\d+)\.(\d+)\.")
"""``blocks.<chunk>.<block>.``, as written with ``block_chunks > 0``; the block's index counts through all chunks."""


@dataclass(frozen=True)
class Step:
    """What a step of intake did, in a line."""

    name: str
    did: str


def strip_prefixes(state_dict: StateDict, is_dropped: Callable[[str], object]) -> tuple[dict[str, Tensor], str]:
    """Take away what wrappers put into keys, and prefixes, each only where every key to be converted carries it.

    Args:
        is_dropped: whether a key is dropped by name, so that it need not carry them.

    Raises:
        CheckpointError: two keys become one.
    """
    renamed, stripped = take_off_prefixes(
        state_dict, lambda name: is_dropped(name) or name.startswith(HEADS) or name in COUNTERS
    )
    counters = [
        key
        for key, name in renamed.items()
        if name in COUNTERS and state_dict[key].numel() == 1 and set(stripped) & set(PREFIXES)
    ]
    did = [f"{', '.join(map(repr, stripped))} taken off keys"] if stripped else []
    did += [f"left out, counts the updates of an average: {', '.join(map(repr, counters))}"] if counters else []
    kept = {key: tensor for key, tensor in state_dict.items() if key not in counters}
    return _rename(kept, renamed, "without their prefixes"), "; ".join(did)


def unchunk_blocks(state_dict: StateDict) -> tuple[dict[str, Tensor], str]:
    """Turn ``blocks.<chunk>.<block>.`` into ``blocks.<block>.``.

    Raises:
        CheckpointError: two keys become one.
    """
    renamed = {key: CHUNKED_BLOCK.sub(r"blocks.\2.", key) for key in state_dict}
    num_chunks = count_chunks(state_dict)
    did = f"blocks counted through {num_chunks} chunk(s)" if num_chunks else ""
    return _rename(state_dict, renamed, "with their blocks counted through"), did


def count_chunks(keys: Iterable[str]) -> int:
    """The chunks that blocks lie in; 0 where they lie in none."""
    return len({found[1] for key in keys if (found := CHUNKED_BLOCK.match(key))})


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
        other = ", or give --save-dtype bfloat16" if dtype == torch.float16 else ""
        raise CheckpointError(f"values too large for {dtype}.", lost, hint=f"Leave --save-dtype out{other}.")
    before = sorted({str(state_dict[key].dtype) for key, done in is_cast.items() if done})
    return result, f"{sum(is_cast.values())} tensors cast from {', '.join(before)} to {dtype}" if before else ""


# what a problem says of itself, and the way to values
WAYS_TO_VALUES = {
    "meta device": "Save it from the model that has its weights loaded.",
    "quantized":   "Dequantize its tensors first: tensor.dequantize().",
    "not a dense": "Its tensors must be dense: tensor.to_dense().contiguous().",
    "expanded":    "Its tensors must be dense: tensor.contiguous().",
}  # fmt: skip


def check_values(state_dict: StateDict) -> None:
    """Refuse tensors without values of their own: none at all, fewer than they show, or in another layout than dense.

    A rank's piece of a tensor is not looked at: it is put together first, or refused.

    Raises:
        CheckpointError: naming them.
    """
    found = {key: problem for key, tensor in state_dict.items() if (problem := _find_problem(tensor))}
    if found:
        problems = [f"{key}: {problem}" for key, problem in found.items()]
        ways = [way for sign, way in WAYS_TO_VALUES.items() if any(sign in problem for problem in found.values())]
        hint = " ".join([RESAVE, *ways])
        raise CheckpointError("tensors that are quantized, not dense, or without values in the file.", problems, hint)


def _find_problem(tensor: Tensor) -> str | None:
    if isinstance(tensor, StandInTensor):
        return None
    if tensor.is_meta:
        return "on the meta device, which has no values"
    if tensor.is_quantized:
        return f"quantized ({tensor.dtype})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"not a dense floating-point tensor ({'nested' if tensor.is_nested else tensor.layout})"
    held = tensor.untyped_storage().nbytes()
    shown = math.prod(tensor.shape) * tensor.element_size()  # torch's own product may overflow
    return f"{tuple(tensor.shape)}, expanded from {held} bytes" if shown > held else None


def take_off_prefixes(
    keys: Iterable[str], is_exempt: Callable[[str], object] = lambda _name: False
) -> tuple[dict[str, str], list[str]]:
    """Every key to what is left of it without wrappers and the prefixes that all share, and what was taken off.

    Args:
        is_exempt: whether a key need not carry a prefix for it to be taken off the others.
    """
    renamed = {key: WRAPPER.sub("", key) for key in keys}
    stripped = list(dict.fromkeys(found for key in renamed for found in WRAPPER.findall(key)))
    while counted := [name for name in renamed.values() if not is_exempt(name)]:
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in counted)), None)
        if prefix is None:
            break
        stripped.append(prefix)
        renamed = {key: name.removeprefix(prefix) for key, name in renamed.items()}
    return renamed, stripped


def _rename(state_dict: StateDict, renamed: Mapping[str, str], how: str) -> dict[str, Tensor]:
    sources: dict[str, list[str]] = {}
    for key in state_dict:
        sources.setdefault(renamed[key], []).append(key)
    problems = [f"{name}: {' and '.join(keys)}" for name, keys in sources.items() if len(keys) > 1]
    if problems:
        raise CheckpointError(f"several keys are the same {how}.", problems, hint=RESAVE)
    return {renamed[key]: tensor for key, tensor in state_dict.items()}
