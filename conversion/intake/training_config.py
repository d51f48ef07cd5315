"""The configuration that a DINOv2 or DINOv3 training leaves beside its checkpoints, ``config.yaml``.

Sources: ``ssl_default_config.yaml`` and ``models/`` of facebookresearch/dinov2 and facebookresearch/dinov3.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from conversion.errors import CheckpointError
from conversion.families.images import RGB
from conversion.families.told import Told
from conversion.intake.facts import Fact, read_student
from conversion.intake.settings_file import Beside, load_settings

TRAINING_CONFIG = "config.yaml"
"""What a training run of DINOv2 leaves in its output folder, two folders above the teacher's checkpoints."""

# architecture in a training's config: width, blocks, heads
ARCHITECTURES = {
    "vit_small":  (384,  12, 6),
    "vit_base":   (768,  12, 12),
    "vit_large":  (1024, 24, 16),
    "vit_so400m": (1152, 27, 18),
    "vit_huge2":  (1280, 32, 20),
    "vit_giant2": (1536, 40, 24),
    "vit_7b":     (4096, 40, 32),
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

NORMALIZATION = {"rgb_mean": "image_mean", "rgb_std": "image_std"}
"""There, how the images of the crops are normalised."""

ROPE_DTYPE = "pos_embed_rope_dtype"
"""There, the dtype that the angles of positions are computed in: of the official models float32."""

OF_TRAINING = {
    "block_chunks", "ffn_layer", "interpolate_antialias", "interpolate_offset", "layerscale", "n_storage_tokens",
    "norm_layer", "num_register_tokens", "patch_size", "pos_embed_type",
}  # fmt: skip
"""Keys of the student that show that a configuration is of such a training, whatever its architecture is called."""

MEMORY_EFFICIENT = "_memeff"
"""What the name of an architecture may end in, which changes nothing of the model."""


def name_architecture(student: Mapping[str, Any]) -> str:
    """The student's architecture, by its name in :data:`ARCHITECTURES`; empty where it is none of these."""
    name = student.get("arch")
    known = name.removesuffix(MEMORY_EFFICIENT) if isinstance(name, str) else ""
    return known if known in ARCHITECTURES else ""


def find_architecture(path: Path, student: Mapping[str, Any]) -> tuple[int, int, int]:
    """Find width, blocks and heads of the student's architecture.

    Raises:
        CheckpointError: it is none of the authors': an official model of the same shapes need not have its settings.
    """
    known = name_architecture(student)
    if not known:
        name = f"{student.get('arch')!r:.80}"
        headline = f"{path}: student.arch is {name}, not an architecture of DINOv2's and DINOv3's authors."
        hint = (
            f"If it is one of theirs by another name, write that: {', '.join(ARCHITECTURES)}. Or move the file away, "
            "and give what it tells as options, as --num-attention-heads: vision-parity inspect names them."
        )
        raise CheckpointError(headline, hint=hint)
    return ARCHITECTURES[known]


def find_training(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """Find the configuration of the DINOv2 training that a checkpoint is of, in its folder or two above it.

    Raises:
        CheckpointError: there is one, and it cannot be read.
    """
    for place in (folder, *folder.absolute().parents[:2]):
        content = load_settings(place / TRAINING_CONFIG, yaml.safe_load)
        student = content.get("student") if isinstance(content, dict) else None
        if isinstance(student, dict) and _is_of_training(student):
            return place / TRAINING_CONFIG, content
    return None


def _is_of_training(student: Mapping[str, Any]) -> bool:
    return bool(name_architecture(student)) or not OF_TRAINING.isdisjoint(student)


def read_training(path: Path, config: Mapping[str, Any]) -> Beside:
    """Read what a DINOv2 or DINOv3 training's configuration says of the student; the teacher is built alike.

    Raises:
        CheckpointError: positions are reckoned in another way than in transformers, which no tensor shows; or its
            architecture is not known.
    """
    student = config["student"]
    embed_dim, depth, num_heads = find_architecture(path, student)
    values = {name: student.get(name, default) for name, default in TRAINING_DEFAULTS.items()}
    values = {name: value for name, value in values.items() if isinstance(value, int | float)}  # else "${...}"
    by = f"{path.name} of the training run"
    told = {"num_attention_heads": Told(num_heads, by)}
    if student.get("pos_embed_type") == "rope":
        told |= {name: Told(value, by) for name, value in _read_rotary(path, config).items()}
    else:
        told |= {name: Told(value, by) for name, value in values.items() if name.startswith("interpolate_")}
    facts = {
        name: Fact(int(value), f"student.{name}{'' if name in student else ' (by default)'}")
        for name, value in values.items()
        if not name.startswith("interpolate_")
    }
    sizes = {"embed_dim": embed_dim, "depth": depth}
    facts |= {name: Fact(size, f"student.arch ({student['arch']}), {name}") for name, size in sizes.items()}
    dtype = student.get(ROPE_DTYPE, "fp32")
    otherwise = () if dtype == "fp32" else (f"{ROPE_DTYPE} {dtype!r:.20}; here angles are computed in float32",)
    return Beside(path, told, {**facts, **read_student(student, depth)}, otherwise=otherwise)


def _read_rotary(path: Path, config: Mapping[str, Any]) -> dict[str, object]:
    """What a DINOv3 training tells: the epsilon of its layer norms, and how images are normalised.

    Raises:
        CheckpointError: positions are reckoned in another way than in transformers, which no tensor shows.
    """
    student, crops = config["student"], config.get("crops")
    scaled = student.get(COORDINATES, "separate")
    if scaled != "separate":
        headline = f"{path}: {COORDINATES} is {scaled!r}; transformers has the positions of 'separate' alone."
        raise CheckpointError(headline, hint="Use this model with the code that trained it.")
    norm = student.get("norm_layer")
    told: dict[str, object] = {"layer_norm_eps": EPS[norm]} if isinstance(norm, str) and norm in EPS else {}
    for key, name in NORMALIZATION.items():
        values = crops.get(key) if isinstance(crops, dict) else None
        if isinstance(values, list) and len(values) == RGB and all(isinstance(value, int | float) for value in values):
            told[name] = tuple(map(float, values))
    return told
