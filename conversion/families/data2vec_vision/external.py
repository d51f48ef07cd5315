"""Data2Vec-Vision by the authors' own code, from a clone of facebookresearch/data2vec_vision."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.external import Projection, construct, import_class
from conversion.families.images import RGB
from conversion.families.timm_code import BUNDLED_INSTEAD
from conversion.patching import without_timm_registration

FOLDER = "beit"
"""Of the clone: its modules import each other from there."""

LAYER_NORM_EPS = 1e-6
"""Which the authors hand to the constructor, in ``beit_base_patch16_224`` and its like."""


class Pretrained(nn.Module):
    """What makes ``VisionTransformerForCyclicalTraining`` take and return what the bundled original does."""

    forward_features: Any

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``last_hidden_state`` ``(B, T, D)``; the authors' own forward goes on to the targets."""
        return {"last_hidden_state": self.forward_features(pixel_values, bool_masked_pos, layer_results=None)}


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


MODELS: dict[str, tuple[type[nn.Module], str, str]] = {
    "backbone": (Pretrained, "modeling_cyclical", "VisionTransformerForCyclicalTraining"),
    "image-classification": (Classifier, "modeling_finetune", "VisionTransformer"),
}


def build_external(spec: Data2VecVisionSpec, clone: Path) -> nn.Module:
    """Build the authors' model of this spec.

    Args:
        clone: the folder that has ``beit/modeling_finetune.py``, or its ``beit``.

    Raises:
        CheckpointError: it is no such clone, lacks packages, or has no class for models of this spec.
    """
    problems = _list_obstacles(spec)
    if problems:
        raise CheckpointError(
            f"{clone}: the authors' code has no such model.",
            problems,
            hint=BUNDLED_INSTEAD,
        )
    adapter, module, name = MODELS[spec.task]
    root = clone / FOLDER if (clone / FOLDER).is_dir() else clone
    with without_timm_registration():
        authors = import_class(root, module, name)
    model = construct(type(name, (adapter, authors), {}), _list_arguments(spec), {}, root)
    blocks: Any = model.blocks
    for block in blocks:
        block.attn.qkv = Projection(block.attn.qkv.weight)
    return model


def _list_obstacles(spec: Data2VecVisionSpec) -> list[str]:
    if spec.task == "semantic-segmentation":
        return ["segmentation models are mmsegmentation's, which the repository does not contain"]
    if spec.task == "image-classification" and spec.mask_token:
        return ["a classifier with a mask token: the authors' classifier masks patches in training only"]
    if spec.task == "backbone" and not spec.mask_token:
        return ["a pretrained model without a mask token: the authors' always has one"]
    return []


def _list_arguments(spec: Data2VecVisionSpec) -> dict[str, object]:
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
    if spec.task == "image-classification":
        arguments |= {"num_classes": spec.num_classes, "use_mean_pooling": spec.mean_pooling}
    return arguments
