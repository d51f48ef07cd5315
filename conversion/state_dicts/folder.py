"""A folder that ``from_pretrained`` reads: its files, and what of them is read here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.errors import CheckpointError
from conversion.families.image_sizes import MAX_TOKENS
from conversion.state_dicts.restore import find_family

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MODEL_CARD, PARITY_CARD = "README.md", "parity.json"
LEFT_OUT = "left_out.safetensors"
"""Tensors of the original that have no place in the converted model, where it has such."""

DEEPEST = 1000
"""Blocks of a model that a file may speak of."""

LARGEST = {"num_hidden_layers": DEEPEST, "num_labels": 1_000_000}
"""Field of a config to its largest value: transformers makes a list as long, which may fill the memory."""

MOST_DIGITS = 20
"""Of a whole number in a file: as many as the largest of 64 bits has."""

USUAL_PATCH = 14
"""Side of a patch where a config does not tell it: the smallest that a family has by default."""

AGAIN = "Copy the folder again, or convert the original again."


def read_config(directory: Path) -> "PretrainedConfig":
    """The transformers config of an artifact, staged or published.

    Raises:
        CheckpointError: it is none that transformers reads.
    """
    from transformers import AutoConfig

    problems = _list_impossible(read_settings(directory / CONFIG))
    if problems:
        raise CheckpointError(f"{directory / CONFIG}: has values that no model has.", problems, hint=AGAIN)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises nearly everything on values that it does not expect
        raise describe_unreadable(directory / CONFIG, error) from error
    return config


def _list_impossible(settings: dict[str, Any]) -> list[str]:
    """Fields with which transformers would fill the memory, or fail; also those of a config within, as a backbone's."""
    problems, parts = [], [("", settings)]
    while parts:
        prefix, part = parts.pop()
        for name, value in part.items():
            if value is None and "backbone_config" in part:
                continue  # which tells it
            if name in LARGEST and not (isinstance(value, int) and value <= LARGEST[name]):
                problems.append(f"{prefix}{name}: {value!r:.80}, not a whole number up to {LARGEST[name]:,}")
            elif isinstance(value, dict):
                parts.append((f"{prefix}{name}.", value))
        patch, side = part.get("patch_size"), part.get("image_size")
        patch = patch if isinstance(patch, int) else USUAL_PATCH
        if patch < 1:
            problems.append(f"{prefix}patch_size: {patch}, not a whole number from 1 up")
        elif isinstance(side, int) and (side // patch) ** 2 > MAX_TOKENS:
            problems.append(f"{prefix}image_size: {side}, {(side // patch) ** 2:,} patches; at most {MAX_TOKENS:,}")
    return problems


def read_settings(path: Path) -> dict[str, Any]:
    """The content of a JSON file of settings.

    Raises:
        CheckpointError: it cannot be read, or is anything else than one JSON object.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as JSON ({type(error).__name__}: {error}).", hint=AGAIN
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: a JSON {type(content).__name__}, not an object of settings.", hint=AGAIN)
    return content


def parse_json(text: str) -> Any:
    """Parse JSON, without whole numbers that no computation takes.

    Raises:
        ValueError: it is no JSON, or a number in it is too large.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_int=_parse_integer)


def _parse_integer(digits: str) -> int:
    count = len(digits.removeprefix("-"))
    if count > MOST_DIGITS:
        raise ValueError(f"a whole number of {count} digits")
    return int(digits)


def describe_unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error of a settings file that transformers does not take, whatever it raised."""
    lines = str(error).strip().splitlines() or [""]
    return CheckpointError(
        f"{path}: is not what transformers reads.", [f"{type(error).__name__}: {lines[0][:300]}"], hint=AGAIN
    )


def read_left_out(directory: Path) -> "dict[str, Tensor]":
    """The tensors that an artifact keeps beside its model, under their original keys; mostly none.

    Raises:
        CheckpointError: it cannot be read, or holds something that no conversion of this model leaves out.
    """
    path = directory / LEFT_OUT
    if not path.exists():
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        left_out = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=AGAIN) from error
    config = read_config(directory)
    family = find_family(config)
    spec = family.read_config(config)
    original = family.original_shapes(spec)  # on the meta device, whatever size the config speaks of
    problems = [
        f"{key}: {tuple(tensor.shape)}, expected {original.get(key, 'no such tensor')}"
        for key, tensor in left_out.items()
        if not family.explain_absence(key) or tuple(tensor.shape) != original.get(key)
    ]
    if problems:
        hint = f"Remove {LEFT_OUT}: the model is complete without it; or convert the original again."
        raise CheckpointError(f"{path}: holds what no conversion of this model leaves out.", problems, hint)
    return left_out
