"""The configs that are written of the golden models, recorded in ``fixtures/artifacts.json``; under either major.

``python -m tests.support.recorded`` records them anew.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import conversion
from conversion.artifact.library_fields import BESIDE_BACKBONE
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from tests.support.golden import DEPTH, NAMES, read_golden

OF_BACKBONES = ("apply_layernorm", "out_features", "out_indices", "reshape_hidden_states", "stage_names")
"""Fields of DINOv3's config that transformers 5 alone has, for its backbone class; no model here reads them."""

OF_FINDING = {
    "backbone", "backbone_kwargs", "output_attentions", "use_autobackbone", "use_pretrained_backbone",
    "use_timm_backbone", *BESIDE_BACKBONE,
}  # fmt: skip
"""Fields of a config with another in it that one of both versions alone writes; no model here reads them."""

PATH = Path(__file__).parents[2] / "fixtures" / "artifacts.json"


def read_recorded() -> dict[str, dict[str, Any]]:
    """Golden model to file name to content, without the version that wrote it."""
    content: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
    return content


def record() -> dict[str, dict[str, Any]]:
    """What the installed version writes."""
    written = {}
    for name in NAMES:
        golden = read_golden(name)
        with tempfile.TemporaryDirectory() as directory:
            target = Path(directory) / name
            conversion.save_artifact(conversion.convert(golden.state_dict, **golden.overrides), target)
            files = {file: json.loads((target / file).read_text(encoding="utf-8")) for file in (CONFIG, PREPROCESSOR)}
        of_library = {"transformers_version", *(OF_BACKBONES if golden.family.name == "dinov3" else ())}
        of_library |= OF_FINDING if golden.name in DEPTH else set()
        files[CONFIG] = {field: value for field, value in files[CONFIG].items() if field not in of_library}
        written[name] = files
    own = {*written["dinov2_tiny"][CONFIG], *OF_BACKBONES} - {"dtype", "id2label", "label2id", "torch_dtype"}
    for config in (files[CONFIG] for files in written.values() if "backbone_config" in files[CONFIG]):
        config["backbone_config"] = {name: each for name, each in config["backbone_config"].items() if name in own}
    return written


if __name__ == "__main__":
    warnings.simplefilter("error")
    PATH.write_text(json.dumps(record(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
