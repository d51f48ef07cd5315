"""What vision transformers have in common: their spec, and what the shapes of their tensors tell and leave open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD, RGB, Channels, find_channels
from conversion.families.settings import IMAGE_SETTINGS, list_unused
from conversion.families.shapes import WHOLE, check_heads, count_blocks, find_misshapen, guess_heads
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

SQUARE = "Only models of square images are converted."

CROP_PCT = 224 / 256
"""Of most evaluations: a crop of 224 pixels out of a short edge of 256."""

BESIDE_CONFIG = frozenset(IMAGE_SETTINGS)
"""Fields of the spec that transformers' config has no place for: each of these settings determines one of its name."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every vision transformer is made of; a family adds its own.

    Attributes:
        embed_dim: width D of the tokens.
        patch_size: side of a patch, in pixels.
        image_size: native side, in pixels.
        num_classes: of the classifier or the segmentation; 0 for a backbone.
        layer_norm_eps: of every layer norm.
        num_channels: of the images.
        image_mean, image_std: of the normalisation of images in a range of 0 to 1; None where nobody told.
        crop_pct: share of the short edge that the centre crop of the original's evaluation keeps.
        interpolation: of images, by name.
        mask_token: patches can be masked.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    image_size: int
    num_classes: int = 0
    layer_norm_eps: float = 1e-6
    num_channels: int = RGB
    image_mean: Channels | None = IMAGENET_MEAN
    image_std: Channels | None = IMAGENET_STD
    crop_pct: float = CROP_PCT
    interpolation: str = "bicubic"
    mask_token: bool = False

    @property
    def grid(self) -> int:
        """Patches along a side at the native size."""
        return self.image_size // self.patch_size

    @property
    def task(self) -> str:
        """What the model is for, as ``backbone`` or ``image-classification``."""
        return "image-classification" if self.num_classes else "backbone"

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        raise NotImplementedError

    @property
    def any_size(self) -> bool:
        """Whether the original takes images of another size than its own."""
        return False

    @property
    def branches_on_size(self) -> bool:
        """Whether transformers decides by an image's size what it computes, so that no graph is for several sizes."""
        return False

    @property
    def input_size(self) -> int | None:
        """Side in pixels of the images that the image processor makes, as told; None for the usual one."""
        return None

    @property
    def takes_masks(self) -> bool:
        """Whether patches can be masked."""
        return self.mask_token

    @property
    def keeps_aspect(self) -> bool:
        """Whether an image keeps its aspect ratio on the way to the model; else the model's images are square."""
        return False

    @property
    def photo_size(self) -> tuple[int, int] | None:
        """Width and height that the photo of the proof is brought to before anything else; None for its own."""
        return None

    def shape_input(self, side: int) -> tuple[int, int]:
        """Find the height and width in pixels of what the image processor makes, with this shorter side.

        Where it keeps the aspect ratio that depends on the image: here one of 4 by 3, as most cameras take.
        """
        return side, side * 4 // 3 // self.patch_size * self.patch_size if self.keeps_aspect else side


def read_shapes(
    shapes: Shapes,
    kind: str,
    num_attention_heads: int,
    *,
    needed: Mapping[str, int],
    optional: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Read off the shapes of an original state dict what those of every vision transformer tell.

    Args:
        kind: of the model, for messages.
        num_attention_heads: which no shape tells.
        needed, optional: number of dimensions by key, of what else the family reads.

    Returns:
        fields of a :class:`Spec`.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    depth, problems = count_blocks(shapes)
    needed = {"pos_embed": 3, "patch_embed.proj.weight": 4, **needed}
    problems = find_misshapen(shapes, needed, optional or {}) + problems
    if problems:
        raise CheckpointError(f"This cannot be recognised as a {kind} model.", problems, WHOLE)
    embed_dim, patch_size = shapes["pos_embed"][2], shapes["patch_embed.proj.weight"][3]
    return {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": check_heads(embed_dim, num_attention_heads),
        "patch_size": patch_size,
        "image_size": find_grid(shapes, "pos_embed") * patch_size,
        "num_channels": find_channels(shapes, "patch_embed.proj.weight", embed_dim),
        "mask_token": "mask_token" in shapes,
    }


def find_grid(shapes: Shapes, key: str) -> int:
    """Patches along a side, by position embeddings of the CLS token and of every patch ``(1, 1 + N, D)``.

    Raises:
        CheckpointError: they are not those of a square.
    """
    try:
        return square_side(shapes[key][1] - 1)
    except KeyMapError as error:
        raise CheckpointError(f"{key} {tuple(shapes[key])}: {error.headline}", hint=SQUARE) from error


def list_open(shapes: Shapes, **own: object) -> dict[str, object]:
    """List the settings that shapes leave open, each with the value that most such models have, or None.

    Args:
        own: of a family: settings beside the common ones, or other values of these.
    """
    pos_embed = shapes.get("pos_embed", ())
    embed_dim = pos_embed[2] if len(pos_embed) == 3 else None
    return list_usual(embed_dim, find_channels(shapes, "patch_embed.proj.weight", embed_dim), **own)


def list_usual(embed_dim: int | None, num_channels: int, **own: object) -> dict[str, object]:
    """List what :func:`list_open` does for a model of this width whose images have so many channels."""
    usual = {
        "num_attention_heads": guess_heads(embed_dim) if embed_dim else None,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        **{name: value for name, value in own.items() if name not in IMAGE_SETTINGS},
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "crop_pct": CROP_PCT,
        "interpolation": "bicubic",
    }
    unused = list_unused(num_channels)
    return {name: value for name, value in (usual | own).items() if name not in unused}
