"""The specs of the golden models, from what their recordings say of themselves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conversion.families.base import Spec
from conversion.families.beit.config import BeitSpec
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.depth_anything.config import DepthAnythingSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2_depth.config import Dinov2DepthSpec
from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from tests.support.golden import GoldenModel


def resampling_of(golden: "GoldenModel") -> dict[str, Any]:
    """How the recorded model resamples position embeddings: as the official models, which it was built like."""
    has_registers = bool(golden.config["registers"])
    return {"interpolate_offset": 0.0 if has_registers else 0.1, "interpolate_antialias": has_registers}


PHOTOS: dict[str, Any] = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
NORMALISATION: dict[str, Any] = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


def normalisation_of(golden: "GoldenModel") -> dict[str, Any]:
    """Mean and standard deviation of images, of segmentation models as in the recipe for ADE20K."""
    is_imagenets = "out_indices" in golden.config or golden.name.startswith("beitv2")
    return PHOTOS if is_imagenets else NORMALISATION


def describe_dinov2(golden: "GoldenModel") -> Dinov2Spec:
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


def describe_dinov3(golden: "GoldenModel") -> Dinov3Spec:
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


def describe_data2vec_vision(golden: "GoldenModel") -> Data2VecVisionSpec:
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


def describe_beit(golden: "GoldenModel") -> BeitSpec:
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


def describe_head(golden: "GoldenModel") -> dict[str, Any]:
    """What no tensor tells of a model with a depth head; and smaller images than usual, which take less time."""
    config = golden.config
    told = {
        "num_attention_heads": config["num_heads"],
        "out_indices": tuple(config.get("out_index") or config["intermediate_layer_idx"]),
        "max_depth": int(config["max_depth"] or 0),
    }
    return told if golden.family.name == "dinov2_depth" else {**told, "input_size": config["image_size"]}


def describe_depth_anything(golden: "GoldenModel") -> DepthAnythingSpec:
    """The spec, from what the recording says of itself."""
    config, told = golden.config, describe_head(golden)
    return DepthAnythingSpec(
        neck_widths=tuple(config["out_channels"]), fusion_width=config["features"], **_describe_backbone(config, told)
    )


def describe_dinov2_depth(golden: "GoldenModel") -> Dinov2DepthSpec:
    """The spec, from what the recording says of itself."""
    config, told = golden.config, describe_head(golden)
    widths = tuple(config["post_process_channels"])
    return Dinov2DepthSpec(neck_widths=widths, fusion_width=config["channels"], **_describe_backbone(config, told))


def _describe_backbone(config: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in told.items() if name != "num_attention_heads"}
    sizes = {name: config[name] for name in ("embed_dim", "depth", "patch_size", "image_size")}
    return {**sizes, "num_heads": told["num_attention_heads"], "ffn": "mlp", "mask_token": True, **others}


SPECS: dict[str, Callable[["GoldenModel"], Spec]] = {
    "dinov2": describe_dinov2,
    "dinov3": describe_dinov3,
    "data2vec_vision": describe_data2vec_vision,
    "beit": describe_beit,
    "depth_anything": describe_depth_anything,
    "dinov2_depth": describe_dinov2_depth,
}
