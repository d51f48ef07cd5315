"""DINOv2: what a model is made of, from a variant's row or from the shapes found, and its transformers config."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.base import Override
from conversion.families.labels import build_labels
from conversion.families.shapes import (
    HEAD_DIM,
    NUM_ATTENTION_HEADS_HELP,
    WHOLE,
    choose_heads,
    count_blocks,
    find_misshapen,
    parse_integer,
)
from conversion.mapping.key_map import Shapes
from conversion.mapping.tensors import square_side

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OVERRIDES = {"num_attention_heads": Override("num_heads", parse_integer, NUM_ATTENTION_HEADS_HELP, neutral=1)}

# what the spec is read from: key and number of dimensions
NEEDED = {"pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.ls1.gamma": 1}
OPTIONAL = {"register_tokens": 3, "linear_head.weight": 2}


@dataclass(frozen=True)
class Dinov2Spec:
    """All that the architecture depends on.

    Attributes:
        embed_dim: width D of the tokens.
        ffn: ``"mlp"``, or ``"swiglu"`` as in the giant.
        num_register_tokens: 0 for a plain model.
        patch_size: side of a patch, in pixels.
        image_size: native side, in pixels: ``pos_embed`` has ``(image_size / patch_size) ** 2`` patch positions.
        num_classes: of the 1-layer linear head; 0 for a backbone.
    """

    embed_dim: int
    depth: int
    num_heads: int
    ffn: Literal["mlp", "swiglu"]
    num_register_tokens: int
    patch_size: int
    image_size: int
    num_classes: int

    @property
    def hidden_dim(self) -> int:
        """Width of the feed-forward's hidden layer: 4D, of SwiGLU two thirds of it, rounded up to a multiple of 8."""
        return 4 * self.embed_dim if self.ffn == "mlp" else (int(4 * self.embed_dim * 2 / 3) + 7) // 8 * 8

    @property
    def grid(self) -> int:
        """Patches along a side at the native size."""
        return self.image_size // self.patch_size

    @property
    def task(self) -> str:
        """What the model is for."""
        return "image-classification" if self.num_classes else "backbone"

    @property
    def mask_token(self) -> bool:
        """Every DINOv2 model has one."""
        return True

    @property
    def any_size(self) -> bool:
        """Position embeddings are resampled to any size."""
        return True

    @property
    def hf_prefix(self) -> str:
        """Where the backbone lives in transformers' module tree and keys."""
        prefix = "dinov2_with_registers." if self.num_register_tokens else "dinov2."
        return prefix if self.num_classes else ""

    @property
    def hf_class(self) -> str:
        """Name of the transformers class."""
        base = "Dinov2WithRegisters" if self.num_register_tokens else "Dinov2"
        return base + ("ForImageClassification" if self.num_classes else "Model")


def is_dinov2(shapes: Shapes) -> bool:
    """Whether these keys are a DINOv2 model's: its name for layer scale is its own."""
    return any(key.endswith(".ls1.gamma") for key in shapes)


def recognise_spec(shapes: Shapes, num_attention_heads: int | None = None) -> Dinov2Spec:
    """Read the spec off the shapes of an original state dict (linear head under ``linear_head.``).

    Args:
        num_attention_heads: what shapes cannot tell; width / 64 unless given.

    Raises:
        CheckpointError: naming every key that is needed for this and absent or of an impossible shape.
    """
    depth, problems = count_blocks(shapes)
    problems = find_misshapen(shapes, NEEDED, OPTIONAL) + problems
    if problems:
        raise CheckpointError("This cannot be recognised as a DINOv2 model.", problems, WHOLE)
    embed_dim, patch_size = shapes["pos_embed"][2], shapes["patch_embed.proj.weight"][3]
    try:
        grid = square_side(shapes["pos_embed"][1] - 1)
    except KeyMapError as error:
        headline = f"pos_embed {tuple(shapes['pos_embed'])}: {error.headline}"
        raise CheckpointError(headline, hint="Only models of square images are converted.") from error
    return Dinov2Spec(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=choose_heads(embed_dim, num_attention_heads),
        ffn="swiglu" if "blocks.0.mlp.w12.weight" in shapes else "mlp",
        num_register_tokens=shapes["register_tokens"][1] if "register_tokens" in shapes else 0,
        patch_size=patch_size,
        image_size=grid * patch_size,
        num_classes=shapes["linear_head.weight"][0] if "linear_head.weight" in shapes else 0,
    )


def find_assumptions(spec: Dinov2Spec) -> dict[str, str]:
    """What a recognised spec assumes where an override is not given, by the name of the override."""
    assumptions = {"num_attention_heads": f"{spec.num_heads} attention heads assumed: width / {HEAD_DIM}"}
    if spec.num_register_tokens:
        assumptions["resampling"] = (
            "at a size other than native, position embeddings are taken to be resampled as in the official models with "
            "registers, antialiased and without an offset; a training configuration may say otherwise"
        )
    return assumptions


def build_config(spec: Dinov2Spec, labels: tuple[str, ...]) -> "PretrainedConfig":
    """The transformers config, every value written out that the outputs depend on.

    Args:
        labels: a classifier's class names, in the order of the logits; none of a backbone.
    """
    from transformers import Dinov2Config, Dinov2WithRegistersConfig

    values: dict[str, Any] = {
        "architectures": [spec.hf_class],
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.num_heads,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": spec.image_size,
        "patch_size": spec.patch_size,
        "num_channels": 3,
        "qkv_bias": True,
        "use_swiglu_ffn": spec.ffn == "swiglu",
    }
    if labels:
        values |= build_labels(labels)
    if spec.num_register_tokens:
        return Dinov2WithRegistersConfig(num_register_tokens=spec.num_register_tokens, **values)
    return Dinov2Config(use_mask_token=True, **values)


def read_config(config: "PretrainedConfig") -> Dinov2Spec:
    """The spec that a transformers config describes; the inverse of :func:`build_config`."""
    return Dinov2Spec(
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        ffn="swiglu" if config.use_swiglu_ffn else "mlp",
        num_register_tokens=getattr(config, "num_register_tokens", 0),
        patch_size=config.patch_size,
        image_size=config.image_size,
        num_classes=len(config.id2label or ()) if "ForImageClassification" in (config.architectures or [""])[0] else 0,
    )
