"""What files beside a checkpoint tell that no tensor tells: timm's config.json, a training's config.yaml."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.settings import FAMILY, list_settings, option_of
from conversion.families.timm_code import TELL_INSTEAD, build_model
from conversion.families.told import Told, write_value
from conversion.intake.facts import Fact, measure
from conversion.intake.settings_file import Beside, load_settings
from conversion.intake.training_config import find_training, read_training
from conversion.state_dicts.folder import CONFIG

FAMILIES = {"Beit": "beit"}
"""timm's class to the family of its models, of which their tensors fit another family, too."""


def find_beside(folder: Path) -> Beside | None:
    """Find and read a settings file that lies beside a checkpoint; None where there is none of a kind that is known.

    Args:
        folder: that the checkpoint lies in.

    Raises:
        CheckpointError: there is one, and it cannot be read, or speaks of a model that cannot be converted.
    """
    config = folder / CONFIG
    content = load_settings(config, json.loads)
    if isinstance(content, dict) and isinstance(content.get("architecture"), str):
        try:
            return read_timm(config, content)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            headline = f"{config}: holds what timm does not write ({type(error).__name__})."
            raise CheckpointError(headline, [str(error)[:300]], TELL_INSTEAD) from error
    training = find_training(folder)
    return read_training(*training) if training else None


def merge_beside(found: Sequence[Beside]) -> Beside | None:
    """What the checkpoint's own file and the file beside it tell together; None where neither tells anything.

    Raises:
        CheckpointError: they tell the same thing differently.
    """
    if len(found) < 2:
        return next(iter(found), None)
    first, second = found
    problems = [
        f"{name}: {first.told[name].by} says {write_value(first.told[name].value)}, "
        f"{second.told[name].by} says {write_value(second.told[name].value)}"
        for name in first.told.keys() & second.told.keys()
        if first.told[name].value != second.told[name].value
    ]
    if first.labels and second.labels and first.labels != second.labels:
        problems.append(f"class names: those in {first.file.name} are not those in {second.file.name}")
    if problems:
        hint = f"If {second.file} is another checkpoint's, move it away."
        raise CheckpointError("Two sources tell the same setting differently.", problems, hint)
    told, facts = {**second.told, **first.told}, {**second.facts, **first.facts}
    return replace(second, told=told, facts=facts, labels=first.labels or second.labels)


def check_facts(beside: Beside, state_dict: Mapping[str, Tensor], num_chunks: int = 0) -> None:
    """Check that what a file tells of widths, depth and parts is what the tensors have.

    Args:
        num_chunks: of its blocks, as its keys had them.

    Raises:
        CheckpointError: it is not: then the file is another checkpoint's.
    """
    found = measure(state_dict, num_chunks)
    problems = [
        f"{fact.key}: {write_value(fact.value)} in {beside.file.name}, {write_value(found[name])} by the tensors"
        for name, fact in beside.facts.items()
        if name in found and found[name] != fact.value
    ]
    if problems:
        settings = list_settings()
        options = [option_of(name) for name in beside.told if name in settings and settings[name].is_option]
        told = f", and give these as they were in this one's training: {', '.join(options)}" if options else ""
        hint = f"If {beside.file} is another checkpoint's, move it away{told}."
        if beside.is_itself:
            hint = "Save the state dict alone in another file, and give the settings as options."
        raise CheckpointError(f"{beside.file.name} describes another model.", problems, hint)


def read_timm(path: Path, config: Mapping[str, Any]) -> Beside:
    """Read a ``config.json`` of timm's: what the architecture is, timm itself says, built without memory.

    Raises:
        CheckpointError: timm cannot build it, or images are prepared in a way that is not supported.
    """
    from timm.data.config import resolve_data_config

    if ":" in config["architecture"]:
        headline = f"{path}: {config['architecture']!r} is not timm's own name of an architecture."
        raise CheckpointError(headline, hint=TELL_INSTEAD)
    pretrained = config.get("pretrained_cfg") or config
    arguments = dict(config.get("model_args") or {})
    description = {"architecture": config["architecture"], "model_args": arguments}
    with torch.device("meta"):
        model = build_model(description, nn.Module, {})
    images = resolve_data_config({}, pretrained_cfg=dict(pretrained))
    side = _read_side(arguments.get("img_size") or images["input_size"][1:])
    # with rotary positions only DINOv3 is converted, whose image processor makes a square of the whole image
    modes = ("center",) if getattr(model, "rope", None) is None else ("center", "squash")
    mode, supported = images["crop_mode"], " or ".join(map(repr, modes))
    problems = [f"crop_mode: {mode!r}, only {supported} is supported"] * (mode not in modes)
    problems += [f"input_size: {images['input_size']}, only square images are supported"] * (not isinstance(side, int))
    if problems:
        raise CheckpointError(f"{path}: images are prepared in a way that is not supported.", problems, TELL_INSTEAD)
    of_images = {name: images[name] for name in ("crop_pct", "interpolation")} | {"input_size": side}
    of_images |= {"image_mean": tuple(images["mean"]), "image_std": tuple(images["std"])}
    by = f"{path.name}, {config['architecture']}"
    settings, facts = describe_model(model)
    # classes have no place in JSON: a feed-forward that is not named may be another than the usual one
    if settings["hidden_act"] == "gelu" and not arguments.keys() & {"act_layer", "mlp_layer"}:
        del settings["hidden_act"]
    pooling = config.get("global_pool", arguments.get("global_pool", settings.get("global_pool")))
    values = settings | of_images | ({"global_pool": pooling} if isinstance(pooling, str) else {})
    labels = pretrained.get("label_names") or config.get("label_names")
    return Beside(
        path,
        {name: Told(value, by) for name, value in values.items()},
        facts,
        tuple(map(str, labels)) if isinstance(labels, list | tuple) else None,
        description,
    )


def describe_model(model: nn.Module) -> tuple[dict[str, object], dict[str, Fact]]:
    """What timm's own model has: settings that no tensor tells, and facts that tensors tell, too."""
    any_model: Any = model
    blocks = getattr(any_model, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not hasattr(blocks[0], "attn"):
        raise CheckpointError(
            f"{CONFIG} names timm's {type(model).__name__}, which has no transformer blocks and is not converted.",
            hint=f"If {CONFIG} is another checkpoint's, move it away.",
        )
    block: Any = blocks[0]
    activation = block.mlp.act
    is_plain = isinstance(activation, nn.GELU) and activation.approximate == "none"
    settings: dict[str, object] = {
        "num_attention_heads": block.attn.num_heads,
        "layer_norm_eps": block.norm1.eps,
        "hidden_act": "gelu" if is_plain else type(activation).__name__.lower(),
    }
    if type(model).__name__ in FAMILIES:
        settings[FAMILY] = FAMILIES[type(model).__name__]
    if isinstance(getattr(any_model, "global_pool", None), str):
        settings["global_pool"] = any_model.global_pool
    if getattr(any_model, "dynamic_img_size", False):  # else it takes its native size alone
        settings |= {"interpolate_offset": 0.0, "interpolate_antialias": True}
    sizes = {"embed_dim": any_model.embed_dim, "depth": len(blocks), "patch_size": any_model.patch_embed.patch_size[0]}
    registers = getattr(any_model, "reg_token", None)
    name = "num_register_tokens" if getattr(any_model, "rope", None) is None else "num_storage_tokens"
    sizes[name] = 0 if registers is None else registers.shape[1]
    return settings, {name: Fact(size, name) for name, size in sizes.items()}


def _read_side(size: Any) -> int | None:
    """The side of square images, from a number or a pair; None where they are not square."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) else None
