"""Whether a folder is one that ``from_pretrained`` reads a known model from; if not, what it is."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.base import families
from conversion.intake.folder_files import MAIN_FILES, SHARD
from conversion.mapping.key_map import shapes_of
from conversion.state_dicts.folder import CONFIG
from conversion.state_dicts.other_kinds import ADAPTERS, refuse_other_kinds

TELLING = "embeddings.cls_token"
"""What the key of a class token ends with in transformers' layouts, and in no original's."""

ADAPTER_CONFIG = "adapter_config.json"
"""What PEFT writes beside its adapters."""


def is_transformers_folder(path: Path) -> bool:
    """Whether a folder holds a model in transformers' layout: its config names a type that a family converts to.

    Training codes call their files ``config.json`` too, and give types of their own.
    """
    return read_config_of(path).get("model_type") in list_model_types()


def check_transformers_folder(folder: Path) -> None:
    """Check that a folder holds a model of a known family in transformers' layout.

    Raises:
        CheckpointError: it does not; with the type that its config names. Or PEFT's adapters lie beside it.
    """
    if is_transformers_folder(folder):
        refuse_adapters(folder)
        return
    if folder.is_file():
        is_of_model = is_transformers_folder(folder.parent)
        hint = f"Give its folder: {folder.parent}" if is_of_model else "Give the folder that convert has made."
        raise CheckpointError("is a file, not the folder of a converted model.", hint=hint)
    if not (folder / CONFIG).is_file():
        headline = f"not what from_pretrained reads: there is no {CONFIG} in it."
        raise CheckpointError(headline, hint=f"Give the folder in which {CONFIG} lies beside the weights.")
    raise describe_other_type(folder)


def refuse_adapters(folder: Path) -> None:
    """Refuse a folder that is another model where PEFT is installed: ``from_pretrained`` adds the adapters in it.

    Raises:
        CheckpointError: there are adapters in it.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        headline = f"PEFT's adapters lie beside the model ({ADAPTER_CONFIG}), and from_pretrained may add them to it."
        hint = (
            f"To take the model without them, move {ADAPTER_CONFIG} out of the folder; to take it with them, merge "
            'them first: model.merge_and_unload().save_pretrained("merged").'
        )
        raise CheckpointError(headline, hint=hint)


def list_model_types() -> list[str]:
    """The types of transformers' models that are known here."""
    return [model_type for family in families() for model_type in family.model_types]


def is_of_library(folder: Path) -> bool:
    """Whether a folder's ``config.json`` is transformers' own, of whatever type; or timm's."""
    config = read_config_of(folder)
    return _is_own_type(config.get("model_type")) or isinstance(config.get("architecture"), str)


def find_main_file(folder: Path) -> Path | None:
    """The file that ``from_pretrained`` begins with; None where there is none that it reads."""
    return next((folder / name for name in MAIN_FILES if (folder / name).is_file()), None)


def refuse_layout(path: Path, files: Sequence[Path], state_dict: Mapping[str, Tensor]) -> None:
    """Refuse the weights of a model in transformers' layout that cannot be read as such.

    Args:
        path: that was given: their folder, or a file in it.
        files: that were opened.
        state_dict: what they hold, with keys that are no original's of any family.

    Raises:
        CheckpointError: their folder was not given, its config is not there, or the model is of another type; or it has
            adapters that are to be merged first.
    """
    folder = path if path.is_dir() else path.parent
    is_telling = any(key.endswith(TELLING) for key in state_dict)
    if is_telling:
        refuse_other_kinds(shapes_of(state_dict), [ADAPTERS])
    is_named = all(file.name in MAIN_FILES or SHARD.fullmatch(file.name) for file in files)
    model_type, name = read_config_of(folder).get("model_type"), _choose_name(files)
    if model_type in list_model_types():
        if is_telling:
            hint = f"{_tell_name(name)}To check it: {compare_command(folder)}"
            raise CheckpointError("in the layout of transformers already.", hint=hint)
    elif isinstance(model_type, str) and (is_telling or (is_named and _is_own_type(model_type))):
        raise describe_other_type(folder)
    elif is_telling:
        hint = f"Copy its {CONFIG} beside it. {_tell_name(name)}Then: {compare_command(folder)}"
        raise CheckpointError(
            f"in the layout of transformers already, without a {CONFIG} that names its type.", hint=hint
        )


def _tell_name(name: str) -> str:
    if not name:
        return ""
    does = "Name the file" if name.endswith(".safetensors") else "Save the model's own state dict as"
    return f"{does} {name}. "


def compare_command(folder: Path) -> str:
    """The command that compares a folder with its original."""
    return f"vision-parity compare ORIGINAL {shlex.quote(str(folder))}"


def _choose_name(files: Sequence[Path]) -> str:
    """What a file is to be called for ``from_pretrained`` to find it; empty where it is, or where there are several.

    A pickle may hold more than the model; a file of safetensors does not.
    """
    if len(files) != 1 or files[0].name in MAIN_FILES:
        return ""
    return "model.safetensors" if files[0].suffix == ".safetensors" else "pytorch_model.bin"


def describe_other_type(folder: Path) -> CheckpointError:
    """The error of a folder whose config names no type that is known here."""
    config = read_config_of(folder)
    if not config and (folder / CONFIG).is_file():
        return CheckpointError(f"its {CONFIG} is empty, or no JSON object.", hint="Copy the folder again.")
    model_type = config.get("model_type")
    said = "names no model_type" if model_type is None else f"says model_type {model_type!r}"
    return CheckpointError(
        f"its {CONFIG} {said}; the types that are known here are {', '.join(list_model_types())}.",
        hint="Models of other types are neither verified nor converted.",
    )


def read_config_of(folder: Path) -> dict[str, Any]:
    """What a folder's ``config.json`` says; nothing where it is absent or no JSON object."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _is_own_type(model_type: object) -> bool:
    """Whether transformers itself has models of this type."""
    from transformers import CONFIG_MAPPING

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING
