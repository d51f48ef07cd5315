"""What a checkpoint's own file tells beside its state dict: of lightly-train's model and images; names of classes."""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from conversion.families.told import Told
from conversion.intake.beside import merge_beside
from conversion.intake.facts import Fact
from conversion.intake.settings_file import Beside
from conversion.intake.unpickling import read_attribute

LIGHTLY_TRAIN = "lightly_train"
"""The entry that lightly-train adds to PyTorch Lightning's: ``models``, ``normalize_args``, ``version``."""

# attributes of the pickled DINOv2 model, and what they are called here
SETTINGS: Mapping[str, str] = {
    "num_heads": "num_attention_heads",
    "interpolate_offset": "interpolate_offset",
    "interpolate_antialias": "interpolate_antialias",
}
FACTS: Mapping[str, str] = {
    "embed_dim": "embed_dim",
    "n_blocks": "depth",
    "patch_size": "patch_size",
    "num_register_tokens": "num_register_tokens",
}


def find_within(path: Path, content: Any) -> Beside | None:
    """Find what a checkpoint's own file tells of settings that no tensor tells, and of classes; None if nothing.

    Args:
        content: of the file, with stand-ins for foreign objects.
    """
    if not isinstance(content, dict):
        return None
    found = [each for each in (_read_lightly_train(path, content), _read_dataset(path, content)) if each]
    return merge_beside(found)


def _read_lightly_train(path: Path, content: Mapping[Any, Any]) -> Beside | None:
    """What lightly-train's section tells. Its pickled model's code is not run: a stand-in has the attributes."""
    section = content.get(LIGHTLY_TRAIN)
    if not isinstance(section, dict):
        return None
    models, images = section.get("models"), section.get("normalize_args")
    model = models.get("model") if isinstance(models, dict) else None
    norm = (read_attribute(model, "_modules") or {}).get("norm")
    values = {name: read_attribute(model, attribute) for attribute, name in SETTINGS.items()}
    values["layer_norm_eps"] = read_attribute(norm, "eps")
    told: dict[str, object] = {name: value for name, value in values.items() if isinstance(value, Real)}
    for name, key in (("image_mean", "mean"), ("image_std", "std")):
        numbers = images.get(key) if isinstance(images, dict) else None
        if isinstance(numbers, list | tuple) and all(isinstance(each, Real) for each in numbers):
            told[name] = tuple(numbers)
    facts = {name: read_attribute(model, attribute) for attribute, name in FACTS.items()}
    by = f"{path.name}, written by lightly-train"
    return Beside(
        path,
        {name: Told(value, by) for name, value in told.items()},
        {name: Fact(value, name) for name, value in facts.items() if isinstance(value, int)},
        is_itself=True,
    )


def _read_dataset(path: Path, content: Mapping[Any, Any]) -> Beside | None:
    """The class names of the dataset: in ``meta``, as mmsegmentation before 1.0 has them, or in mmengine's part of it.

    The colours of classes have no place in transformers' config.
    """
    meta = content.get("meta")
    if not isinstance(meta, dict):
        return None
    of_dataset = meta.get("dataset_meta")
    fields = {str(key).lower(): value for key, value in (of_dataset if isinstance(of_dataset, dict) else meta).items()}
    names = fields.get("classes")
    if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names):
        return None
    unplaced = ("palette",) if fields.get("palette") else ()
    return Beside(path, labels=tuple(names), unplaced=unplaced, is_itself=True)
