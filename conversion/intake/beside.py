"""What files beside a checkpoint tell that no tensor tells: timm's config.json, a training's config.yaml."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.settings import FAMILY, list_settings, option_of
from conversion.families.timm_code import TELL_INSTEAD, Description, build_model
from conversion.families.told import Told, write_value
from conversion.intake.facts import Fact, measure, read_student
from conversion.state_dicts.folder import CONFIG

TRAINING_CONFIG = "config.yaml"
"""What a training run of DINOv2 leaves in its output folder, two folders above the teacher's checkpoints."""

LARGEST = 2**24
"""Bytes of a settings file; those that timm writes, with 21,841 class names, have less than a tenth of it."""

FAMILIES = {"Beit": "beit"}
"""timm's class to the family of its models, of which their tensors fit another family, too."""

# architecture in a training's config: width, blocks, heads
ARCHITECTURES = {
    "vit_small":  (384,  12, 6),
    "vit_base":   (768,  12, 12),
    "vit_large":  (1024, 24, 16),
    "vit_giant2": (1536, 40, 24),
}  # fmt: skip

# of the training's default configuration, where a key is absent
TRAINING_DEFAULTS: Mapping[str, object] = {
    "patch_size": 16,
    "num_register_tokens": 0,
    "interpolate_offset": 0.1,
    "interpolate_antialias": False,
}

COORDINATES = "pos_embed_rope_normalize_coords"
"""In a DINOv3 training's config: by which sides of an image the positions of its patches are divided."""

EPS = {"layernorm": 1e-6, "layernormbf16": 1e-5}
"""There, the name of a layer norm to its epsilon."""


@dataclass(frozen=True)
class Beside:
    """What a file beside a checkpoint tells.

    Attributes:
        told: settings that no tensor tells.
        facts: what tensors tell, too, by the names of :func:`conversion.intake.facts.measure`: so a file of another
            model shows.
        labels: class names, in the order of the logits.
        timm: the architecture and its arguments, for timm's own code.
        is_itself: the file is the checkpoint's own.
        unplaced: what else it tells, which a converted model has no place for.
    """

    file: Path
    told: Mapping[str, Told] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    timm: Description | None = None
    is_itself: bool = False
    unplaced: tuple[str, ...] = ()

    @property
    def did(self) -> str:
        """What it tells, in a line."""
        names = [*self.told, *(["the class names"] if self.labels else [])]
        did = [f"{self.file.name} tells {', '.join(names)}"] if names else []
        did += [f"left out, no place for it: {', '.join(self.unplaced)}"] if self.unplaced else []
        return "; ".join(did)


def find_beside(folder: Path) -> Beside | None:
    """Find and read a settings file that lies beside a checkpoint; None where there is none of a kind that is known.

    Args:
        folder: that the checkpoint lies in.

    Raises:
        CheckpointError: there is one, and it cannot be read, or speaks of a model that cannot be converted.
    """
    config = folder / CONFIG
    content = _load(config, json.loads)
    if isinstance(content, dict) and isinstance(content.get("architecture"), str):
        return read_timm(config, content)
    training = find_training(folder)
    return read_training(training[0], training[1]["student"]) if training else None


def find_training(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """Find the configuration of the DINOv2 training that a checkpoint is of, in its folder or two above it.

    Raises:
        CheckpointError: there is one, and it cannot be read.
    """
    for place in (folder, *folder.absolute().parents[:2]):
        content = _load(place / TRAINING_CONFIG, yaml.safe_load)
        student = content.get("student") if isinstance(content, dict) else None
        if isinstance(student, dict) and student.get("arch") in ARCHITECTURES:
            return place / TRAINING_CONFIG, content
    return None


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


def read_training(path: Path, student: Mapping[str, Any]) -> Beside:
    """Read the student's section of a DINOv2 or DINOv3 training's configuration; the teacher is built alike."""
    embed_dim, depth, num_heads = ARCHITECTURES[student["arch"]]
    values = {name: student.get(name, default) for name, default in TRAINING_DEFAULTS.items()}
    values = {name: value for name, value in values.items() if isinstance(value, int | float)}  # else "${...}"
    by = f"{path.name} of the training run"
    told = {"num_attention_heads": Told(num_heads, by)}
    if student.get("pos_embed_type") == "rope":
        told |= {name: Told(value, by) for name, value in _read_rotary(path, student).items()}
    else:
        told |= {name: Told(value, by) for name, value in values.items() if name.startswith("interpolate_")}
    facts = {
        name: Fact(int(value), f"student.{name}{'' if name in student else ' (by default)'}")
        for name, value in values.items()
        if not name.startswith("interpolate_")
    }
    sizes = {"embed_dim": embed_dim, "depth": depth}
    facts |= {name: Fact(size, f"student.arch ({student['arch']}), {name}") for name, size in sizes.items()}
    return Beside(path, told, {**facts, **read_student(student, depth)})


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


def _read_rotary(path: Path, student: Mapping[str, Any]) -> dict[str, float]:
    """What the student's section of a DINOv3 training tells.

    Raises:
        CheckpointError: positions are reckoned in another way than in transformers, which no tensor shows.
    """
    scaled = student.get(COORDINATES, "separate")
    if scaled != "separate":
        headline = f"{path}: {COORDINATES} is {scaled!r}; transformers has the positions of 'separate' alone."
        raise CheckpointError(headline, hint="Use this model with the code that trained it.")
    norm = student.get("norm_layer")
    return {"layer_norm_eps": EPS[norm]} if norm in EPS else {}


def _read_side(size: Any) -> int | None:
    """The side of square images, from a number or a pair; None where they are not square."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) else None


def _load(path: Path, parse: Callable[[str], Any]) -> Any:
    """The content of a settings file; None where there is none.

    Raises:
        CheckpointError: it is there, and cannot be read.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise CheckpointError(
            f"{path}: has {path.stat().st_size:,} bytes, too many for a file of settings.", hint=TELL_INSTEAD
        )
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        headline = f"{path}: cannot be read ({type(error).__name__}), and lies beside or above the weights."
        raise CheckpointError(
            headline, [str(error)[:300]], f"Copy that file again. Or {TELL_INSTEAD[0].lower()}{TELL_INSTEAD[1:]}"
        ) from error
