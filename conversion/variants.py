"""Every official checkpoint, a frozen row each."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from conversion.errors import VariantError

DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"

# size     embed_dim depth heads  ffn       hub name
DINOV2_SIZES = {
    "vits14": (384,  12,   6,    "mlp",    "small"),
    "vitb14": (768,  12,   12,   "mlp",    "base"),
    "vitl14": (1024, 24,   16,   "mlp",    "large"),
    "vitg14": (1536, 40,   24,   "swiglu", "giant"),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One official checkpoint.

    Attributes:
        name: as in ``torch.hub``; also the pytest id.
        family: the folder under ``conversion/`` that knows how to convert it.
        task: ``"backbone"`` or ``"image-classification"``.
        spec: keyword arguments of the family's spec: widths, depth, number of heads, features.
        files: role (``"backbone"``, ``"linear_head"``) to download URL.
        hub_name: the official converted model's name on the Hub, without namespace.
        backbone: name of the variant whose backbone file this one uses; itself for a backbone.
        giant: over a billion parameters; tests of it carry the ``giant`` marker.
    """

    name: str
    family: str
    task: str
    spec: Mapping[str, int | str]
    files: Mapping[str, str]
    hub_name: str
    backbone: str
    giant: bool = False


def _build_dinov2_variant(size: str, num_register_tokens: int, num_classes: int) -> Variant:
    embed_dim, depth, num_heads, ffn, hub_size = DINOV2_SIZES[size]
    architecture = f"dinov2_{size}"
    backbone = architecture + ("_reg" if num_register_tokens else "")
    file_stem = f"{DINOV2_URL}/{architecture}/{architecture}" + ("_reg4" if num_register_tokens else "")
    files = {"backbone": f"{file_stem}_pretrain.pth"}
    hub_name = "dinov2-with-registers-" if num_register_tokens else "dinov2-"
    hub_name += hub_size
    if num_classes:
        files["linear_head"] = f"{file_stem}_linear_head.pth"
        hub_name += "-imagenet1k-1-layer"
    return Variant(
        name=backbone + ("_1layer" if num_classes else ""),
        family="dinov2",
        task="image-classification" if num_classes else "backbone",
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
            }
        ),
        files=MappingProxyType(files),
        hub_name=hub_name,
        backbone=backbone,
        giant=size == "vitg14",
    )


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for size, num_register_tokens, num_classes in product(DINOV2_SIZES, (0, 4), (0, 1000))
        for variant in [_build_dinov2_variant(size, num_register_tokens, num_classes)]
    }
)


def find_variant(name: str) -> Variant:
    """The row called ``name``.

    Raises:
        VariantError: there is none; the nearest names are suggested.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    nearest = difflib.get_close_matches(name, VARIANTS, n=3)
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known variants: {', '.join(VARIANTS)}."
    raise VariantError(f"Unknown variant {name!r}.", hint=hint)
