"""What a folder in transformers' layout tells of the settings that no tensor tells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from conversion.families.base import Family
from conversion.families.settings import AUTHORS, FAMILY
from conversion.families.told import Told, write_value
from conversion.mapping.key_map import shapes_of
from conversion.state_dicts.folder import CONFIG, PARITY_CARD, PREPROCESSOR, parse_json


def read_told(folder: Path, family: Family[Any], spec: Any) -> dict[str, Told]:
    """The settings that a folder tells, by the file that tells each.

    Its card tells of what no other file has a place for. What the authors' code has one value for is not taken from
    the settings files, which may have another by mistake: they are compared with it.

    Args:
        spec: that its config describes.
    """
    names = {setting.field: name for name, setting in family.settings.items() if AUTHORS not in setting.fixed_by}
    config = {
        names[field]: value for field, value in vars(spec).items() if field in names.keys() - family.beside_config
    }
    config |= {FAMILY: family.name} if FAMILY in family.settings else {}  # its type tells
    processor = _read_fields(folder / PREPROCESSOR, ())
    images = {
        name: processor[name] for name in ("image_mean", "image_std") if name in names.values() and name in processor
    }
    card = _read_fields(folder / PARITY_CARD, ("told",))
    of_card = {name: each.get("value") for name, each in card.items() if isinstance(each, dict)}
    told: dict[str, Told] = {}
    for file, found in ((PREPROCESSOR, images), (PARITY_CARD, of_card), (CONFIG, config)):
        for name, value in found.items():
            if name in family.settings and value not in (None, ()):
                told[name] = Told(tuple(value) if isinstance(value, list) else value, file)
    return told


def describe_others(family: Family[Any], spec: Any, original: Mapping[str, Tensor], told: Mapping[str, Told]) -> str:
    """Say what a folder's config has otherwise than the authors' code, which is taken; empty if nothing.

    Args:
        spec: that its config describes.
        original: its state dict, in the original's layout.
        told: what is taken from the folder's files.
    """
    usual = family.list_open(shapes_of(original))
    fixed = {name: setting.field for name, setting in family.settings.items() if AUTHORS in setting.fixed_by}
    others = [
        f"{name} {write_value(getattr(spec, field))}; the original has {write_value(usual[name])}, which is taken "
        "where nobody tells another"
        for name, field in fixed.items()
        if field and field not in family.beside_config and name in usual and name not in told
        if getattr(spec, field) != usual[name]
    ]
    return f"{CONFIG} says {', '.join(others)}" if others else ""


def _read_fields(path: Path, places: tuple[str, ...]) -> dict[str, Any]:
    """The object at a place in a JSON file; empty where there is none: what is wrong with a file is said elsewhere."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        for place in places:
            content = content[place]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}
    return content if isinstance(content, dict) else {}
