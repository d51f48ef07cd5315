"""Every official checkpoint and recipe, a frozen row each."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from conversion.errors import VariantError
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD

DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"
DATA2VEC_VISION_URL = "https://dl.fbaipublicfiles.com/fairseq/data2vec/data2vec_vision"

DINOV3_URL = "https://dl.fbaipublicfiles.com/dinov3"

IMAGENET = "imagenet-1k"

# size     embed_dim depth heads  ffn       hub name
DINOV2_SIZES = {
    "vits14": (384,  12,   6,    "mlp",    "small"),
    "vitb14": (768,  12,   12,   "mlp",    "base"),
    "vitl14": (1024, 24,   16,   "mlp",    "large"),
    "vitg14": (1536, 40,   24,   "swiglu", "giant"),
}  # fmt: skip

# size         embed_dim depth heads  hidden gated  hash in the name of its file, by what it was trained on
DINOV3_SIZES = {
    "vits16":     (384,  12,   6,     1536,  False, {"lvd1689m": "08c60483"}),
    "vits16plus": (384,  12,   6,     1536,  True,  {"lvd1689m": "4057cbaa"}),
    "vitb16":     (768,  12,   12,    3072,  False, {"lvd1689m": "73cec8be"}),
    "vitl16":     (1024, 24,   16,    4096,  False, {"lvd1689m": "8aa4cbdd", "sat493m": "eadcf0ff"}),
    "vith16plus": (1280, 32,   20,    5120,  True,  {"lvd1689m": "7c1da9a5"}),
    "vit7b16":    (4096, 40,   32,    8192,  True,  {"lvd1689m": "a955f4ea", "sat493m": "a6675841"}),
}  # fmt: skip

# mean and std of the images
DINOV3_IMAGES = {
    "lvd1689m": (IMAGENET_MEAN, IMAGENET_STD),
    "sat493m":  ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143)),
}  # fmt: skip

# size    embed_dim depth heads  blocks that the segmentation head sees
DATA2VEC_VISION_SIZES = {
    "base":  (768,  12,   12,   (3, 5, 7, 11)),
    "large": (1024, 24,   16,   (7, 11, 15, 23)),
}  # fmt: skip

# of what all its models have in common, what a model of this task has; its entry in its file, which the authors'
# fine-tuning reads, and that file; no segmentation model is published
DATA2VEC_VISION_TASKS = {
    "": (
        {"task": "backbone", "shared_position_bias": True, "mask_token": True, "image_mean": IMAGENET_MEAN,
         "image_std": IMAGENET_STD},
        "model",
        {"base": f"{DATA2VEC_VISION_URL}/base_800/checkpoint-799.pth",
         "large": f"{DATA2VEC_VISION_URL}/large_800/checkpoint-799.pth"},
    ),
    "_ft1k": (
        {"task": "image-classification", "block_position_bias": True, "mean_pooling": True, "num_classes": 1000,
         "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)},
        "module",
        {"base": f"{DATA2VEC_VISION_URL}/finetuned_base/checkpoint-99/mp_rank_00_model_states.pt",
         "large": f"{DATA2VEC_VISION_URL}/finetuned_large/checkpoint-49/mp_rank_00_model_states.pt"},
    ),
    "_ade20k": (
        {"task": "semantic-segmentation", "block_position_bias": True, "mean_pooling": True, "image_size": 512,
         "num_classes": 150, "pool_scales": (1, 2, 3, 6), "auxiliary_channels": 256, "image_mean": IMAGENET_MEAN,
         "image_std": IMAGENET_STD, "crop_pct": 1.0},
        "state_dict",
        {"base": "upernet_data2vec_vision_base_ade20k.pth", "large": "upernet_data2vec_vision_large_ade20k.pth"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One official checkpoint, or the recipe of one where none is published.

    Attributes:
        name: of its own; also the pytest id.
        family: the folder under ``conversion/`` that knows how to convert it.
        spec: keyword arguments of the family's spec: widths, depth, number of heads, features.
        files: role (``"checkpoint"``, and ``"linear_head"`` where that is a file of its own) to download URL; a mere
            file name where nothing is published.
        hub_name: the official converted model's name on the Hub, without namespace; empty if there is none.
        entry: of the official checkpoint, the one that the model on the Hub is of; None if the file is the model.
        backbone: name of the variant whose ``"checkpoint"`` file this one uses; itself unless its head is a file of
            its own.
        slow: its proof takes minutes; tests of it carry the ``slow`` marker.
        license: of the official weights, as the Hub names it.
        datasets: on the Hub, that they have seen, if they are there.
    """

    name: str
    family: str
    spec: Mapping[str, object]
    files: Mapping[str, str]
    hub_name: str
    backbone: str
    entry: str | None = None
    slow: bool = False
    license: str = "apache-2.0"
    datasets: tuple[str, ...] = ()

    @property
    def is_published(self) -> bool:
        """Whether its files can be downloaded."""
        return all(url.startswith("https:") for url in self.files.values())


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
    return Variant(
        name=backbone + ("_1layer" if num_classes else ""),
        family="dinov2",
        spec=MappingProxyType(
            {
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
        ),
        files=MappingProxyType(files),
        hub_name=hub_name,
        backbone=backbone,
        slow=size == "vitg14",
        datasets=(IMAGENET,) if num_classes else (),  # the backbone's own, LVD-142M, is not there
    )


def _build_data2vec_vision_variant(size: str, suffix: str) -> Variant:
    embed_dim, depth, num_heads, out_indices = DATA2VEC_VISION_SIZES[size]
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
    return Variant(
        name=name,
        family="data2vec_vision",
        spec=MappingProxyType(spec),
        files=MappingProxyType({"checkpoint": files[size]}),
        hub_name=f"data2vec-vision-{size}{suffix.replace('_', '-')}" if is_published else "",
        backbone=name,
        entry=entry,
        slow=features["task"] == "semantic-segmentation",
        datasets=(IMAGENET,) if is_published else (),
    )


def _build_dinov3_variant(size: str, data: str) -> Variant:
    embed_dim, depth, num_heads, hidden_dim, is_gated, hashes = DINOV3_SIZES[size]
    mean, std = DINOV3_IMAGES[data]
    name = f"dinov3_{size}" + ("" if data == "lvd1689m" else f"_{data}")
    is_largest, is_satellite = size == "vit7b16", data == "sat493m"
    return Variant(
        name=name,
        family="dinov3",
        spec=MappingProxyType(
            {
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
        ),
        files=MappingProxyType(
            {"checkpoint": f"{DINOV3_URL}/dinov3_{size}/dinov3_{size}_pretrain_{data}-{hashes[data]}.pth"}
        ),
        hub_name=f"dinov3-{size}-pretrain-{data}",
        backbone=name,
        slow=size in ("vith16plus", "vit7b16"),
        license="other",
    )


_ROWS = [
    *(_build_dinov2_variant(*features) for features in product(DINOV2_SIZES, (0, 4), (0, 1000))),
    *(_build_data2vec_vision_variant(*features) for features in product(DATA2VEC_VISION_SIZES, DATA2VEC_VISION_TASKS)),
    *(
        _build_dinov3_variant(size, data)
        for data in DINOV3_IMAGES
        for size, row in DINOV3_SIZES.items()
        if data in row[-1]
    ),
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
