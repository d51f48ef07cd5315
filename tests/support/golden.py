"""The golden models: tiny weights, inputs, and what the original code computed from them (``fixtures/golden``)."""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

import conversion
from conversion.families.base import Family, Spec, load_family
from conversion.families.beit.config import BeitSpec
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2_depth.config import Dinov2DepthSpec
from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.settings import option_of
from conversion.families.told import write_value
from conversion.intake.steps import unchunk_blocks
from conversion.parity.points import Inputs

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "golden"
OF_ANOTHER_WIDTH = "dinov2_tiny_dd_channels16"
"""A recorded model whose head no class of transformers can hold: it is there for its keys, and for the original."""

NAMES = tuple(sorted(path.stem for path in DIRECTORY.glob("*.safetensors") if path.stem != OF_ANOTHER_WIDTH))
DEPTH = tuple(name for name in NAMES if name.startswith("depth_anything") or "_dd" in name)
DINOV2 = tuple(name for name in NAMES if name.startswith("dinov2") and name not in DEPTH)
DINOV3 = tuple(name for name in NAMES if name.startswith("dinov3"))
DATA2VEC_VISION = tuple(name for name in NAMES if name.startswith("data2vec_vision"))
BEIT = tuple(name for name in NAMES if name.startswith("beit"))
ARCHITECTURES = tuple(name for name in NAMES if name != "dinov2_tiny_chunked")  # chunks have no part in an architecture
NUM_HEADS = 2


@dataclass(frozen=True)
class GoldenCase:
    """One recorded run: inputs in float32, outputs in float64 under the original's names.

    Attributes:
        counterfactual: those of the original without what transformers does otherwise, where that was recorded.
    """

    name: str
    inputs: Inputs
    outputs: dict[str, Tensor]
    counterfactual: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenModel:
    """A golden model; its weights as recorded, and as intake hands them on."""

    name: str
    config: dict[str, Any]
    recorded: dict[str, Tensor]
    linear_head: dict[str, Tensor]
    cases: tuple[GoldenCase, ...]

    @property
    def family(self) -> Family[Any]:
        name = self.name.partition("_tiny")[0]
        if self.name.startswith("dinov2_tiny_dd"):
            return load_family("dinov2_depth")
        return load_family({"beitv2": "beit", "depth_anything_v2": "depth_anything"}.get(name, name))

    @property
    def backbone(self) -> dict[str, Tensor]:
        return unchunk_blocks(self.recorded)[0]

    @property
    def spec(self) -> Spec:
        return SPECS[self.family.name](self)

    @property
    def overrides(self) -> dict[str, Any]:
        """What shapes cannot tell about this model."""
        if self.family.name == "dinov2":
            return {"num_attention_heads": NUM_HEADS, **resampling_of(self)}
        if self.name in DEPTH:
            return describe_head(self)
        if self.family.name == "dinov3":
            return {"layer_norm_eps": self.config["layer_norm_eps"], **PHOTOS}
        if self.family.name == "beit":
            return {**({} if "vocab_size" in self.config else {"family": "beit"}), **normalisation_of(self)}
        told = {name: tuple(self.config[name]) for name in ("out_indices", "pool_scales") if name in self.config}
        return told | normalisation_of(self)

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Backbone, and linear head under its prefix."""
        return self.backbone | {f"linear_head.{key}": tensor for key, tensor in self.linear_head.items()}


def resampling_of(golden: GoldenModel) -> dict[str, Any]:
    """How the recorded model resamples position embeddings: as the official models, which it was built like."""
    has_registers = bool(golden.config["registers"])
    return {"interpolate_offset": 0.0 if has_registers else 0.1, "interpolate_antialias": has_registers}


PHOTOS: dict[str, Any] = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
NORMALISATION: dict[str, Any] = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


def normalisation_of(golden: GoldenModel) -> dict[str, Any]:
    """Mean and standard deviation of images, of segmentation models as in the recipe for ADE20K."""
    is_imagenets = "out_indices" in golden.config or golden.name.startswith("beitv2")
    return PHOTOS if is_imagenets else NORMALISATION


def describe_dinov2(golden: GoldenModel) -> Dinov2Spec:
    """The spec, from what the recording says of itself."""
    return Dinov2Spec(
        embed_dim=golden.config["embed_dim"],
        depth=golden.config["depth"],
        num_heads=golden.config["num_heads"],
        ffn="swiglu" if golden.config["ffn"] == "swiglufused" else "mlp",
        num_register_tokens=golden.config["registers"],
        patch_size=golden.config["patch_size"],
        image_size=golden.config["image_size"],
        num_classes=golden.linear_head["bias"].shape[0] if golden.linear_head else 0,
        **resampling_of(golden),
    )


def describe_dinov3(golden: GoldenModel) -> Dinov3Spec:
    """The spec, from what the recording says of itself."""
    config, is_gated = golden.config, golden.config["ffn_layer"] == "swiglu"
    hidden = config["embed_dim"] * config["ffn_ratio"]
    return Dinov3Spec(
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        patch_size=config["patch_size"],
        hidden_dim=2 * hidden // 3 if is_gated else hidden,
        is_gated=is_gated,
        num_storage_tokens=config["n_storage_tokens"],
        rope_theta=float(config["rope_base"]),
        layer_norm_eps=config["layer_norm_eps"],
        interpolation="bilinear",
        crop_pct=1.0,
        **PHOTOS,
    )


def describe_data2vec_vision(golden: GoldenModel) -> Data2VecVisionSpec:
    """The spec, from what the recording says of itself."""
    config = golden.config
    is_segmentation, is_classifier = "out_indices" in config, config.get("pooling") == "mean"
    features: dict[str, Any] = {"task": "backbone", "mask_token": True}
    if is_classifier:
        features = {"task": "image-classification", "mean_pooling": True}
    elif is_segmentation:
        features = {
            "task": "semantic-segmentation",
            "mean_pooling": True,
            "out_indices": tuple(config["out_indices"]),
            "pool_scales": tuple(config["pool_scales"]),
            "auxiliary_channels": config["auxiliary_channels"],
        }
    return Data2VecVisionSpec(
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        hidden_dim=config["mlp_ratio"] * config["embed_dim"],
        patch_size=config["patch_size"],
        image_size=config["image_size"],
        shared_position_bias=config["relative_position_bias"] == "shared",
        block_position_bias=config["relative_position_bias"] == "per layer",
        num_classes=config.get("num_labels", 0),
        **features,
        **normalisation_of(golden),
    )


def describe_beit(golden: GoldenModel) -> BeitSpec:
    """The spec, from what the recording says of itself."""
    config, is_pretrained = golden.config, golden.config["kind"] == "mim"
    features: dict[str, Any] = {"task": "image-classification", "mean_pooling": config.get("use_mean_pooling")}
    if is_pretrained:
        features = {"task": "masked-image-modeling", "mask_token": True, "vocab_size": config["vocab_size"]}
    return BeitSpec(
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        hidden_dim=config["mlp_ratio"] * config["embed_dim"],
        patch_size=config["patch_size"],
        image_size=config["image_size"],
        shared_position_bias=config["use_shared_rel_pos_bias"],
        block_position_bias=config["use_rel_pos_bias"],
        num_classes=config.get("num_classes", 0),
        **features,
        **normalisation_of(golden),
    )


def describe_head(golden: GoldenModel) -> dict[str, Any]:
    """What no tensor tells of a model with a depth head; and smaller images than usual, which take less time."""
    config = golden.config
    told = {
        "num_attention_heads": config["num_heads"],
        "out_indices": tuple(config.get("out_index") or config["intermediate_layer_idx"]),
        "max_depth": int(config["max_depth"] or 0),
    }
    return told if golden.family.name == "dinov2_depth" else {**told, "input_size": config["image_size"]}


def describe_depth_anything(golden: GoldenModel) -> DepthAnythingSpec:
    """The spec, from what the recording says of itself."""
    config, told = golden.config, describe_head(golden)
    return DepthAnythingSpec(
        neck_widths=tuple(config["out_channels"]), fusion_width=config["features"], **_describe_backbone(config, told)
    )


def describe_dinov2_depth(golden: GoldenModel) -> Dinov2DepthSpec:
    """The spec, from what the recording says of itself."""
    config, told = golden.config, describe_head(golden)
    widths = tuple(config["post_process_channels"])
    return Dinov2DepthSpec(neck_widths=widths, fusion_width=config["channels"], **_describe_backbone(config, told))


def _describe_backbone(config: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in told.items() if name != "num_attention_heads"}
    sizes = {name: config[name] for name in ("embed_dim", "depth", "patch_size", "image_size")}
    return {**sizes, "num_heads": told["num_attention_heads"], "ffn": "mlp", "mask_token": True, **others}


SPECS: dict[str, Callable[[GoldenModel], Spec]] = {
    "dinov2": describe_dinov2,
    "dinov3": describe_dinov3,
    "data2vec_vision": describe_data2vec_vision,
    "beit": describe_beit,
    "depth_anything": describe_depth_anything,
    "dinov2_depth": describe_dinov2_depth,
}


def list_options(name: str) -> tuple[str, ...]:
    """The options that tell what the tensors of a recorded model cannot."""
    overrides = read_golden(name).overrides
    return tuple(f"{option_of(setting)}={write_value(value)}" for setting, value in overrides.items())


@cache
def read_golden(name: str) -> GoldenModel:
    """Read a golden file."""
    with safe_open(DIRECTORY / f"{name}.safetensors", framework="pt") as file:
        # what BEiT's authors call logits of masked image modeling are this model's logits
        keys = {key.replace(".mim_logits", ".logits"): key for key in file.keys()}  # noqa: SIM118 (not a mapping)
        tensors = {name: file.get_tensor(key) for name, key in keys.items()}
        metadata = file.metadata()
    tensors |= {f"weights.{key}": draw_recipe(key, **each) for key, each in _read_recipe(metadata).items()}
    cases = []
    for case in sorted(key.partition(".")[0] for key in tensors if key.endswith(".pixel_values")):
        outputs = _strip(tensors, f"{case}.")
        pixel_values = outputs.pop("pixel_values")
        changed = {key: outputs.pop(f"counterfactual.{key}") for key in _strip(outputs, "counterfactual.")}
        masked, changed_masked = _strip(outputs, "masked."), _strip(changed, "masked.")
        masks = [held.pop("bool_masked_pos") for held in (outputs, masked) if "bool_masked_pos" in held]
        plain, changed_plain = (
            {key: value for key, value in held.items() if not key.startswith("masked.")} for held in (outputs, changed)
        )
        cases.append(GoldenCase(case, Inputs(pixel_values), plain, changed_plain))
        cases += [GoldenCase(f"{case}.masked", Inputs(pixel_values, mask), masked, changed_masked) for mask in masks]
    return GoldenModel(
        name,
        json.loads(metadata["config"]),
        _strip(tensors, "weights."),
        _strip(tensors, "linear_head."),
        tuple(cases),
    )


def draw_recipe(key: str, shape: list[int], scale: float, sha256: str) -> Tensor:
    """A weight that is not stored, but drawn as the recording says."""
    drawn = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape) * scale
    tensor = torch.from_numpy(drawn.astype(np.float32))
    assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == sha256, key
    return tensor


def _read_recipe(metadata: dict[str, str]) -> dict[str, dict[str, Any]]:
    recipe: dict[str, dict[str, Any]] = json.loads(metadata.get("recipe", '{"keys": {}}'))["keys"]
    return recipe


def tiny() -> dict[str, Tensor]:
    """The weights of the plain DINOv2 model."""
    return dict(read_golden("dinov2_tiny").backbone)


def convert(name: str = "dinov2_tiny") -> conversion.Conversion:
    """Convert a recorded model."""
    golden = read_golden(name)
    return conversion.convert(golden.state_dict, **golden.overrides)


def write_artifact(folder: Path, name: str = "dinov2_tiny_1layer") -> Path:
    """A recorded model's artifact, as :func:`conversion.save_artifact` writes it."""
    conversion.save_artifact(convert(name), folder / "artifact")
    return folder / "artifact"


@cache
def read_json(name: str) -> Any:
    """Read one of the golden JSON files."""
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def rounds_otherwise(name: str) -> bool:
    """Whether transformers 5 rounds otherwise than the original of a recorded model does, though not of official ones.

    It cuts the fused projection of DINOv2's SwiGLU in two, and products this small sum in another order. It scales
    BEiT's scores and not the query; that is the same where the heads' width is a power of 4, and here it is 12.
    """
    return name in ("dinov2_tiny_swiglu", "beitv2_tiny_ft")


def choose_inexact_attention(family: Family[Any]) -> str:
    """The attention implementation that is not exact, so that a fault must stand out from rounding."""
    return {"eager": "sdpa", "sdpa": "eager"}[family.choose_attention()]
