"""Every official checkpoint and recipe, a frozen row each."""

import difflib
from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

from conversion.errors import VariantError
from conversion.families.images import HALF, IMAGENET_MEAN, IMAGENET_STD
from conversion.families.published import (
    BEIT_FILES,
    BEIT_KINDS,
    BEIT_SIZES,
    BEIT_URL,
    DATA2VEC_VISION_TASKS,
    DEPTH_ANYTHING_FILES,
    DEPTH_ANYTHING_SIZES,
    DINOV2_DEPTHS,
    DINOV2_SIZES,
    DINOV2_URL,
    DINOV3_IMAGES,
    DINOV3_SIZES,
    DINOV3_URL,
    HUB_URL,
    IMAGENET,
    ONLY_LARGE,
    OUT_INDICES,
    V1_BLOCKS,
)
from conversion.families.row import Variant as Variant
from conversion.families.row import build_row


def _build_dinov2_variant(size: str, num_register_tokens: int, num_classes: int) -> Variant:
    embed_dim, depth, num_heads, ffn, hub_size = DINOV2_SIZES[size]
    architecture = f"dinov2_{size}"
    backbone = architecture + ("_reg" if num_register_tokens else "")
    file_stem = f"{DINOV2_URL}/{architecture}/{architecture}" + ("_reg4" if num_register_tokens else "")
    files = {"checkpoint": f"{file_stem}_pretrain.pth"}
    hub_name = "dinov2-with-registers-" if num_register_tokens else "dinov2-"
    hub_name += hub_size
    if num_classes:
        files["linear_head"] = f"{file_stem}_linear_head.pth"
        hub_name += "-imagenet1k-1-layer"
    spec = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "ffn": ffn,
        "num_register_tokens": num_register_tokens,
        "patch_size": 14,
        "image_size": 518,
        "num_classes": num_classes,
        "interpolate_offset": 0.0 if num_register_tokens else 0.1,
        "interpolate_antialias": bool(num_register_tokens),
    }
    return build_row(
        backbone + ("_1layer" if num_classes else ""),
        "dinov2",
        spec,
        files,
        backbone,
        hub_name=hub_name,
        slow=size == "vitg14",
        datasets=(IMAGENET,) if num_classes else (),  # the backbone's own, LVD-142M, is not there
    )


def _build_dinov2_depth_variant(size: str, data: str) -> Variant:
    backbone = _build_dinov2_variant(size, 0, 0)
    width, depth, *_, hub_size = DINOV2_SIZES[size]
    ours = ("embed_dim", "depth", "num_heads", "ffn", "patch_size", "image_size")
    spec = {
        **{name: backbone.spec[name] for name in ours},
        "out_indices": OUT_INDICES[depth],
        "neck_widths": (width // 8, width // 4, width // 2, width),
        "fusion_width": 256,
        "max_depth": DINOV2_DEPTHS[data],
    }
    name = f"dinov2_{size}_{data}_dpt"
    return build_row(
        name,
        "dinov2_depth",
        spec,
        {**backbone.files, "depth_head": f"{DINOV2_URL}/dinov2_{size}/{name}_head.pth"},
        hub_name=f"dpt-dinov2-{hub_size}-{data}",
        slow=backbone.slow,
    )


def _build_data2vec_vision_variant(size: str, suffix: str) -> Variant:
    embed_dim, depth, num_heads, out_indices = BEIT_SIZES[size]
    features, entry, files = DATA2VEC_VISION_TASKS[suffix]
    name = f"data2vec_vision_{size}{suffix}"
    spec = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "hidden_dim": 4 * embed_dim,
        "patch_size": 16,
        "image_size": 224,
        **features,
    }
    if features["task"] == "semantic-segmentation":
        spec["out_indices"] = out_indices
    is_published = files[size].startswith("https:")
    return build_row(
        name,
        "data2vec_vision",
        spec,
        {"checkpoint": files[size]},
        hub_name=f"data2vec-vision-{size}{suffix.replace('_', '-')}" if is_published else "",
        entry=entry,
        slow=features["task"] == "semantic-segmentation",
        datasets=(IMAGENET,) if is_published else (),
    )


def _build_dinov3_variant(size: str, data: str) -> Variant:
    embed_dim, depth, num_heads, hidden_dim, is_gated, hashes = DINOV3_SIZES[size]
    mean, std = DINOV3_IMAGES[data]
    name = f"dinov3_{size}" + ("" if data == "lvd1689m" else f"_{data}")
    is_largest, is_satellite = size == "vit7b16", data == "sat493m"
    spec = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
        "is_gated": is_gated,
        "num_storage_tokens": 4,
        "patch_size": 16,
        "image_size": 224,
        "layer_norm_eps": 1e-5,
        "qkv_bias": not is_largest,
        "local_cls_norm": is_largest or is_satellite,
        "image_mean": mean,
        "image_std": std,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    return build_row(
        name,
        "dinov3",
        spec,
        {"checkpoint": f"{DINOV3_URL}/dinov3_{size}/dinov3_{size}_pretrain_{data}-{hashes[data]}.pth"},
        hub_name=f"dinov3-{size}-pretrain-{data}",
        slow=size in ("vith16plus", "vit7b16"),
        license="other",
    )


def _build_beit_variant(size: str, stem: str) -> Variant:
    embed_dim, depth, num_heads, out_indices = BEIT_SIZES[size]
    kind, num_classes, image_size, hub_name = BEIT_FILES[stem]
    is_second, is_segmentation = stem.startswith("beitv2"), kind == "segmentation"
    name = stem.format(size)
    spec = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "hidden_dim": 4 * embed_dim,
        "patch_size": 16,
        "image_size": image_size,
        "num_classes": num_classes,
        "image_mean": IMAGENET_MEAN if is_second or is_segmentation else HALF,
        "image_std": IMAGENET_STD if is_second or is_segmentation else HALF,
        **({"crop_pct": 1.0} if image_size >= 384 else {}),
        **({"out_indices": out_indices} if is_segmentation else {}),
        **({"num_cls_layers": 2} if is_second and kind == "pretrained" else {}),
        **BEIT_KINDS[kind],
    }
    release = "BEiT-v2" if is_second else "v1.0"
    return build_row(
        name,
        "beit",
        spec,
        {"checkpoint": f"{BEIT_URL}/{release}/{name}.pth"},
        hub_name=hub_name.format(size),
        hub_namespace="microsoft",
        entry="state_dict" if is_segmentation else "model",
        slow=is_segmentation,
        license="mit" if is_second else "apache-2.0",
        datasets=(IMAGENET,) if "1k" in stem else (),
    )


def _build_depth_anything_variant(size: str, stem: str) -> Variant:
    embed_dim, depth, num_heads, *_ = DINOV2_SIZES[f"{size}14"]
    fusion_width, neck_widths, hub_size, license_of_v2 = DEPTH_ANYTHING_SIZES[size]
    max_depth, folder, namespace, hub_name = DEPTH_ANYTHING_FILES[stem]
    name, is_first = stem.format(size), namespace == "LiheYoung"
    spec = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "ffn": "mlp",
        "patch_size": 14,
        "image_size": 518,
        "out_indices": V1_BLOCKS[size] if is_first else OUT_INDICES[depth],
        "neck_widths": neck_widths,
        "fusion_width": fusion_width,
        "max_depth": max_depth,
    }
    return build_row(
        name,
        "depth_anything",
        spec,
        {"checkpoint": f"{HUB_URL}/{folder.format(hub_size)}/{name}.pth"},
        hub_name=hub_name.format(hub_size.lower() if is_first else hub_size),
        hub_namespace=namespace,
        license="apache-2.0" if is_first else license_of_v2,
    )


_ROWS = [
    *(_build_dinov2_variant(*features) for features in product(DINOV2_SIZES, (0, 4), (0, 1000))),
    *(_build_data2vec_vision_variant(*features) for features in product(BEIT_SIZES, DATA2VEC_VISION_TASKS)),
    *(
        _build_dinov3_variant(size, data)
        for data in DINOV3_IMAGES
        for size, row in DINOV3_SIZES.items()
        if data in row[-1]
    ),
    *(
        _build_beit_variant(size, stem)
        for stem in BEIT_FILES
        for size in BEIT_SIZES
        if size == "large" or ONLY_LARGE not in stem
    ),
    *(_build_dinov2_depth_variant(*features) for features in product(DINOV2_SIZES, DINOV2_DEPTHS)),
    *(_build_depth_anything_variant(*features) for features in product(DEPTH_ANYTHING_SIZES, DEPTH_ANYTHING_FILES)),
]

VARIANTS: Mapping[str, Variant] = MappingProxyType(_BY_NAME := {variant.name: variant for variant in _ROWS})


def find_variant(name: str) -> Variant:
    """Find the row called ``name``.

    Raises:
        VariantError: there is none; the nearest names are suggested.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    nearest = difflib.get_close_matches(name, VARIANTS, n=3)
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known variants: {', '.join(VARIANTS)}."
    raise VariantError(f"Unknown variant {name!r}.", hint=hint)
