"""Lines of Python that load a converted model with its image processor, to be pasted."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conversion.artifact.answer import TASKS
from conversion.artifact.card import place_of
from conversion.artifact.reading import rebuild_spec
from conversion.artifact.sizes import list_identical_sizes
from conversion.exports.asked import find_export
from conversion.families.base import load_family
from conversion.families.deviations import IMAGE_PROCESSOR_BACKEND
from conversion.families.target import transformers_major

# runtime to lines that load a file of it
LOADED_BY = {
    "onnx": ("import onnxruntime", "", 'session = onnxruntime.InferenceSession("{file}")', "# {input}: numpy, {dtype}",
             'outputs = session.run(None, {{"{input}": {input}}})  # {outputs}'),
    "openvino": ("import openvino", "", 'model = openvino.Core().compile_model("{file}", "CPU", {settings})',
                 "# {input}: numpy, float32", "outputs = model({input})  # {outputs}"),
    "torch": ("import torch", "", 'model = torch.export.load("{file}").module()', "# {input}: torch, {dtype}",
              "outputs = model({input})  # {outputs}"),
}  # fmt: skip


def write_export_usage(cell: Mapping[str, Any], place: str) -> list[str]:
    """Lines that load an export and run it.

    Args:
        cell: of a card, that the export was judged in.
        place: the artifact's folder.
    """
    exported, export = cell["exported"], find_export(place_of(cell))
    assert export is not None
    values = {
        "file": f"{place}/{export.file}",
        "input": exported["input"],
        "outputs": ", ".join(exported["outputs"]),
        "dtype": cell["dtype"],
        "settings": json.dumps(exported.get("settings", {})),
    }
    return [line.format_map(values) for line in LOADED_BY[export.runtime]]


def write_usage(card: Mapping[str, Any], place: str) -> list[str]:
    """Lines that load model and processor; at a size that is identical, where the processor's own is not.

    And those that make what the original returns, where transformers returns something else.

    They name the dtype that the model was compared in, where its weights have another: it is loaded in theirs else.

    Args:
        place: what ``from_pretrained`` takes: a folder, or a repository on the Hub.
    """
    family, spec = load_family(card["family"]), rebuild_spec(card)
    auto_class, attention = TASKS[spec.task][1] or spec.hf_class, family.choose_attention()
    size = card["baked_image_size"] or family.images.choose_input_size(spec)
    sizes = list_identical_sizes(family, spec, size)
    compared, own = [cell["dtype"] for cell in card["activations"]], card.get("dtype")
    options = f', dtype="{compared[0]}"' if compared and own and own not in compared else ""
    told = json.dumps(family.tell_attention(attention))
    loaded = f'model = {auto_class}.from_pretrained("{place}", attn_implementation={told}{options})'
    if not family.images.build_image_processor(spec, size):
        return [f"from transformers import {auto_class}", "", loaded]
    pillow = ', backend="pil"' if transformers_major() > 4 else ", use_fast=False"
    backend = pillow if any(entry.name == IMAGE_PROCESSOR_BACKEND.name for entry in family.ledger) else ""
    made = [f'processor = AutoImageProcessor.from_pretrained("{place}"{backend})']
    if sizes and size not in sizes and not spec.keeps_aspect:
        there = family.images.build_image_processor(replace(spec, input_size=None), sizes[0])
        changed = [f"{name}={json.dumps(there[name])}" for name in ("size", "crop_size") if name in there]
        made = [made[0].removesuffix(")") + ",", f"    {', '.join(changed)})"]
    imports, result = family.list_usage(spec)
    return [
        *imports,
        f"from transformers import AutoImageProcessor, {auto_class}",
        "",
        loaded,
        *made,
        *(["", *result] if result else []),
    ]
