"""What a checkpoint's own file tells beside its state dict: of lightly-train's, the pickled model and its images."""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from conversion.families.told import Told
from conversion.intake.beside import Beside
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
    """Find what a checkpoint's own file tells of settings that no tensor tells; None if it tells nothing.

    The model in it is a pickled module. Its code is not run: a stand-in has its attributes.

    Args:
        content: of the file, with stand-ins for foreign objects.
    """
    section = content.get(LIGHTLY_TRAIN) if isinstance(content, dict) else None
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
        {name: value for name, value in facts.items() if isinstance(value, int)},
        is_itself=True,
    )
