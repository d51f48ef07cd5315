"""Every field of config.json and preprocessor_config.json with another value, and whether anything notices it.

The fields are those that the library's classes have, not those that this project writes: what is absent from a file
has a value, too. Beside them are fields that no class of the two has, and that some version or some code reads.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conversion
from conversion import ConversionError
from conversion.artifact.checks import check_settings
from conversion.artifact.config_fields import list_fields
from conversion.artifact.library_fields import ANY_TEXT, BESIDE_BACKBONE, CALL_FIELDS, IDLE_IN_PART, SWITCHES
from conversion.artifact.load import load_image_processor
from conversion.artifact.stage import save_artifact
from conversion.intake.synthetic import draw_state_dict
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR, read_config, read_settings
from tests.mutation.injection import Outcome
from tests.support.golden import read_golden

# where a value of the same type says nothing, or is no value of this field: another one
OTHERS: Mapping[str, object] = {
    "architectures": None,
    "dtype": "float16",
    "problem_type": "regression",
    "hidden_act": "gelu_new",
    "image_processor_type": "ViTImageProcessor",
    "crop_size": {"height": 42, "width": 42},
    "size": {"shortest_edge": 43},
    "do_convert_rgb": True,
    "data_format": "channels_last",
    "input_data_format": "channels_last",
    "do_pad": True,
    "device": "cuda",
    "disable_grouping": True,
    "image_seq_length": 4,
    "pad_size": {"height": 512, "width": 512},
    "processor_class": "CLIPProcessor",
    "return_tensors": "np",
}

# of neither class
STRANGERS: Mapping[str, Mapping[str, object]] = {
    CONFIG: {
        "attn_implementation": "eager",
        "auto_map": {"AutoModel": "modeling.Mine"},
        "crop_pct": 0.875,
        "is_decoder": True,
        "per_layer_config": {"0": {"num_attention_heads": 1}},
        "pruned_heads": {"0": [0]},
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "tie_last_hidden_states": False,
        "torch_dtype": "float16",
        "torchscript": True,
    },
    PREPROCESSOR: {
        "auto_map": {"AutoImageProcessor": "processing.Mine"},
        "crop_pct": 0.875,
        "do_flip_channel_order": True,
        "do_thumbnail": True,
        "offset": True,
        "size_divisor": 32,
    },
}


@dataclass(frozen=True)
class FieldFault:
    """A field with another value.

    Attributes:
        file: it is in.
        field: that it changes; of a config within the config, with both names and a dot.
    """

    file: str
    field: str
    value: object

    @property
    def kind(self) -> str:
        """A row of the kill matrix."""
        return f"a field of {self.file}"

    @property
    def where(self) -> str:
        """The field, as it would stand in the file."""
        return f"{self.field}: {json.dumps(self.value)[:80]}"


def list_field_faults(directory: Path) -> Iterator[FieldFault]:
    """Every field of an artifact's settings that matters, with another value, and those of others."""
    config = list_fields(read_config(directory))
    processor = load_image_processor(directory)
    of_processor = {**dict.fromkeys(CALL_FIELDS), **json.loads(json.dumps(processor.to_dict(), default=str))}
    size = of_processor.get("size") or {}
    of_processor |= {"default_to_square": "shortest_edge" not in size}  # transformers 4 does not say it
    strangers = {**STRANGERS[PREPROCESSOR], "reduce_labels": not of_processor.get("do_reduce_labels", False)}
    for file, fields, others in ((CONFIG, config, STRANGERS[CONFIG]), (PREPROCESSOR, of_processor, strangers)):
        for field in {**fields, **others}:
            is_idle = field in SWITCHES and not of_processor.get(SWITCHES[field])
            is_idle |= field in BESIDE_BACKBONE and "backbone_config.model_type" in config
            part, _, name = field.rpartition(".")
            if name not in (IDLE_IN_PART if part else ANY_TEXT) and not is_idle:
                yield FieldFault(file, field, others[field] if field in others else change_value(name, fields[field]))


def put_field(settings: Mapping[str, Any], field: str, value: object) -> dict[str, Any]:
    """The settings with another value of a field, which may be one of a config within them."""
    first, _, rest = field.partition(".")
    return {**settings, first: put_field(settings[first], rest, value) if rest else value}


def change_value(field: str, value: Any) -> object:
    """Another value of a field."""
    if field in OTHERS and OTHERS[field] != value:
        return OTHERS[field]
    if value is None:  # transformers 4 has fields of language models in every config
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 2 or 0.5
    if isinstance(value, str):
        return f"{value}-other"
    if isinstance(value, list):
        return value[:-1] or ["other"]
    if isinstance(value, dict):
        return dict(list(value.items())[:-1]) or {"other": 1}
    raise TypeError(f"{field}: no other value of {value!r} is known")


def judge_fields(model: str) -> list[Outcome]:
    """What notices each fault in the settings of a golden architecture's artifact."""
    golden = read_golden(model)
    out = conversion.convert(draw_state_dict(golden.family, golden.spec, model, 0), **golden.overrides)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / model
        save_artifact(out, artifact)
        check_settings(out, artifact)
        return [judge_field(out, artifact, fault) for fault in list_field_faults(artifact)]


def judge_field(out: conversion.Conversion, artifact: Path, fault: FieldFault) -> Outcome:
    """What notices a fault that is put into the file, and taken out again."""
    path = artifact / fault.file
    before = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(put_field(read_settings(path), fault.field, fault.value)), encoding="utf-8")
    noticed = set()
    try:
        check_settings(out, artifact)
    except ConversionError:
        noticed.add("artifact")
    finally:
        path.write_text(before, encoding="utf-8")
    return Outcome(fault.kind, f"{fault.file}: {fault.where}", frozenset(noticed))
