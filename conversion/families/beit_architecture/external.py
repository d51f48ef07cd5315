"""BEiT's architecture by the authors' own code, from a clone of their repository."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.external import Projection, construct, import_class
from conversion.families.images import RGB
from conversion.families.timm_code import BUNDLED_INSTEAD
from conversion.patching import without_timm_registration

FOLDER = "beit"
"""Of a clone: its modules import each other from there."""


class Classifier(nn.Module):
    """What makes ``VisionTransformer`` take and return what the bundled original does."""

    forward_features: Any
    head: nn.Module

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``pooled`` ``(B, D)``, ``logits`` ``(B, num_classes)``."""
        if bool_masked_pos is not None:
            raise ValueError("This model has no mask token: its patches cannot be masked.")
        pooled = self.forward_features(pixel_values)
        return {"pooled": pooled, "logits": self.head(pooled)}


@dataclass(frozen=True)
class Authors:
    """Where a clone has the class of a model, and what makes that take and return what the bundled original does.

    Attributes:
        folder: of the clone.
        arguments: of the class, beside those that all classes have.
    """

    adapter: type[nn.Module]
    folder: str
    module: str
    name: str
    arguments: Mapping[str, object]


def find_classifier(spec: BeitLikeSpec) -> Authors:
    """Where the class of a classifier is."""
    own = {"num_classes": spec.num_classes, "use_mean_pooling": spec.mean_pooling}
    return Authors(Classifier, FOLDER, "modeling_finetune", "VisionTransformer", own)


def build(spec: BeitLikeSpec, clone: Path, authors: Authors, obstacles: Sequence[str]) -> nn.Module:
    """Build the authors' model of this spec.

    Args:
        clone: the folder that has the authors' folder, or that folder itself.
        obstacles: what models of this spec have that the authors' classes do not.

    Raises:
        CheckpointError: it is no such clone, lacks packages, or has no class for models of this spec.
    """
    if obstacles:
        raise CheckpointError(f"{clone}: the authors' code has no such model.", obstacles, hint=BUNDLED_INSTEAD)
    root = clone / authors.folder if (clone / authors.folder).is_dir() else clone
    with without_timm_registration():
        theirs = import_class(root, authors.module, authors.name)
    arguments = {**_list_arguments(spec), **authors.arguments}
    model = construct(type(authors.name, (authors.adapter, theirs), {}), arguments, {}, root)
    blocks: Any = model.blocks
    for block in blocks:
        block.attn.qkv = Projection(block.attn.qkv.weight)
    return model


def list_obstacles(spec: BeitLikeSpec) -> list[str]:
    """List what the authors' classes do not have, whichever of the architecture's families they are of."""
    if spec.task == "semantic-segmentation":
        return ["segmentation models are mmsegmentation's, which the repository does not contain"]
    if spec.task == "image-classification" and spec.mask_token:
        return ["a classifier with a mask token: the authors' classifier masks patches in training only"]
    if spec.task != "image-classification" and not spec.mask_token:
        return ["a pretrained model without a mask token: the authors' always has one"]
    return []


def _list_arguments(spec: BeitLikeSpec) -> dict[str, object]:
    arguments: dict[str, object] = {
        "img_size": spec.image_size,
        "patch_size": spec.patch_size,
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "mlp_ratio": (spec.hidden_dim + 0.5) / spec.embed_dim,  # times the width, it is rounded down
        "qkv_bias": spec.qkv_bias,
        "norm_layer": partial(nn.LayerNorm, eps=spec.layer_norm_eps),
        "init_values": 1.0 if spec.layer_scale else 0,  # any but zero, or there is no layer scale
        "use_abs_pos_emb": spec.absolute_positions,
        "use_rel_pos_bias": spec.block_position_bias,
        "use_shared_rel_pos_bias": spec.shared_position_bias,
    }
    if spec.num_channels != RGB:
        arguments["in_chans"] = spec.num_channels
    return arguments
