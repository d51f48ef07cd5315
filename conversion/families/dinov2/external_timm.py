"""DINOv2 by timm's own code."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.timm_code import BUNDLED_INSTEAD, Description, adapt, build_model, describe_timm
from conversion.mapping.tensors import resample_position_embeddings

RESAMPLING = (0.0, True)
"""How timm resamples position embeddings: offset and antialias; it has no others."""

ALIASES = {"w12": "fc1", "w3": "fc2"}
"""The original's name of a module of the gated feed-forward, where timm has another: capture points use it."""


class Adapter(nn.Module):
    """What makes timm's class take and return what the bundled original does; to be put before it.

    Attributes:
        interpolate_offset, interpolate_antialias: timm's own. A counterfactual sets others, and then position
            embeddings are resampled as they tell, and not by timm's code.
    """

    interpolate_offset: float
    interpolate_antialias: bool
    no_embed_class: bool
    pos_embed: Tensor
    cls_token: Tensor
    reg_token: Tensor | None
    num_prefix_tokens: int
    forward_features: Callable[[Tensor], Tensor]

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: what the bundled ``Dinov2.forward`` returns of a backbone.

        Raises:
            ValueError: patches are to be masked.
        """
        if bool_masked_pos is not None:
            raise ValueError("timm's model has no mask token: its patches cannot be masked.")
        tokens = self.forward_features(pixel_values)
        return {
            "x_norm_clstoken": tokens[:, 0],
            "x_norm_regtokens": tokens[:, 1 : self.num_prefix_tokens],
            "x_norm_patchtokens": tokens[:, self.num_prefix_tokens :],
        }

    def _pos_embed(self, patches: Tensor) -> Tensor:
        """Add positions and put the other tokens before: ``(B, height, width, D)`` to ``(B, T, D)``."""
        offset, antialias = self.interpolate_offset, self.interpolate_antialias
        if (offset, antialias) == RESAMPLING:
            return cast("Tensor", super()._pos_embed(patches))  # type: ignore[misc]
        pos_embed = self.pos_embed
        if self.no_embed_class:  # the CLS token has none
            pos_embed = torch.cat((torch.zeros_like(pos_embed[:, :1]), pos_embed), dim=1)
        batch, height, width, _ = patches.shape
        if pos_embed.shape[1] != 1 + height * width or height != width:
            pos_embed = resample_position_embeddings(pos_embed, (height, width), offset=offset, antialias=antialias)
        first = (self.cls_token + pos_embed[:, :1]).expand(batch, -1, -1)  # (B, 1, D)
        registers = [] if self.reg_token is None else [self.reg_token.expand(batch, -1, -1)]  # (B, R, D)
        return torch.cat((first, *registers, patches.flatten(1, 2) + pos_embed[:, 1:]), dim=1)


def build_timm(description: Description | None, spec: Dinov2Spec) -> nn.Module:
    """Build timm's model of this spec.

    Args:
        description: what a ``config.json`` of timm's told, if there was one. Then the number of heads and all that
            shapes do not tell are its own, and not the spec's.

    Raises:
        CheckpointError: timm has no such model.
    """
    if spec.num_classes:
        headline = f"{describe_timm(description)} has no classifier on the CLS token and the mean of patches."
        raise CheckpointError(headline, hint=BUNDLED_INSTEAD)
    from timm.layers.mlp import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    shaped: dict[str, object] = {
        "img_size": spec.image_size,
        "in_chans": spec.num_channels,
        "init_values": 1.0 if spec.layer_scale else None,
        "num_classes": 0,
        "qkv_bias": spec.qkv_bias,
    }
    if not spec.proj_bias:
        shaped["proj_bias"] = False
    if spec.ffn == "swiglu" and "mlp_layer" not in ((description or {}).get("model_args") or {}):
        # which JSON cannot hold: the authors of such files have them given in code
        shaped |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    rows = spec.hidden_dim if spec.ffn == "mlp" else 2 * spec.hidden_dim
    told: dict[str, object] = {
        "patch_size": spec.patch_size,
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "mlp_ratio": (rows + 0.5) / spec.embed_dim,  # times the width, it is rounded down
        "reg_tokens": spec.num_register_tokens,
        "no_embed_class": spec.num_register_tokens > 0,
        "global_pool": "",
        "dynamic_img_size": True,
    }
    model = adapt(build_model(_any_size(description), VisionTransformer, shaped, **told), Adapter)
    model.interpolate_offset, model.interpolate_antialias = RESAMPLING
    for block in model.blocks:
        block.attn.fused_attn = True  # as the original's, whatever timm is set to
        if spec.ffn == "swiglu":
            _alias_modules(block.mlp)
    return cast("nn.Module", model)


def _alias_modules(mlp: nn.Module) -> None:
    """Let the modules of a gated feed-forward go by the original's names, too, outside of its state dict."""
    for alias, name in ALIASES.items():
        vars(mlp)[alias] = mlp.get_submodule(name)


def _any_size(description: Description | None) -> Description | None:
    """A description of the same model, which takes images of any size, as transformers' does."""
    if description is None:
        return None
    return {**description, "model_args": {**(description.get("model_args") or {}), "dynamic_img_size": True}}
