"""DINOv2 by timm's own code."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.dinov2.config import RETURNED, Dinov2Spec
from conversion.families.timm_code import (
    BUNDLED_INSTEAD,
    Description,
    adapt,
    build_model,
    describe_timm,
    refuse_masks,
    take_any_size,
)
from conversion.mapping.key_map import Shapes
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
    forward_head: Callable[[Tensor], Tensor]
    forward_intermediates: Callable[..., list[Any]]
    linear_head: "JoinedHead | None"
    out_indices: tuple[int, ...]
    apply_layernorm: bool | None
    reshape_hidden_states: bool | None

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Any]:
        """Run the model: what the bundled ``Dinov2.forward`` returns; the logits are those of timm's own head.

        Raises:
            ValueError: patches are to be masked.
        """
        refuse_masks(bool_masked_pos)
        if self.out_indices:
            return {"feature_maps": self.compute_features(pixel_values)}
        tokens = self.forward_features(pixel_values)
        outputs = {
            "x_norm_clstoken": tokens[:, 0],
            "x_norm_regtokens": tokens[:, 1 : self.num_prefix_tokens],
            "x_norm_patchtokens": tokens[:, self.num_prefix_tokens :],
        }
        if self.linear_head is not None:
            pooled = (outputs["x_norm_clstoken"], outputs["x_norm_patchtokens"].mean(dim=1))
            self.linear_head(torch.cat(pooled, dim=-1))  # (B, 2D), for the capture points
            outputs["logits"] = self.forward_head(tokens)
        return outputs

    def compute_features(self, pixel_values: Tensor) -> list[Tensor]:
        """Compute what a feature backbone returns, by timm's code."""
        how: dict[str, object] = {"norm": bool(self.apply_layernorm), "intermediates_only": True}
        if self.reshape_hidden_states:
            return self.forward_intermediates(pixel_values, self.out_indices, **how)  # (B, D, h, w) each
        how |= {"output_fmt": "NLC", "return_prefix_tokens": True}
        parts = self.forward_intermediates(pixel_values, self.out_indices, **how)  # patches, and all other tokens
        return [torch.cat((others, patches), dim=1) for patches, others in parts]  # (B, T, D) each

    def _pos_embed(self, patches: Tensor) -> Tensor:
        """Add positions and put the other tokens before: ``(B, height, width, D)`` to ``(B, T, D)``."""
        offset, antialias = self.interpolate_offset, self.interpolate_antialias
        if (offset, antialias) == RESAMPLING:
            return cast("Tensor", super()._pos_embed(patches))  # type: ignore[misc]
        pos_embed, registers = self.pos_embed, self.reg_token
        if self.no_embed_class:  # the CLS token has none
            pos_embed = torch.cat((torch.zeros_like(pos_embed[:, :1]), pos_embed), dim=1)
        elif registers is not None:
            registers = registers + pos_embed[:, 1 : self.num_prefix_tokens]  # (1, R, D)
            pos_embed = torch.cat((pos_embed[:, :1], pos_embed[:, self.num_prefix_tokens :]), dim=1)
        batch, height, width, _ = patches.shape
        if pos_embed.shape[1] != 1 + height * width or height != width:
            pos_embed = resample_position_embeddings(pos_embed, (height, width), offset=offset, antialias=antialias)
        first = (self.cls_token + pos_embed[:, :1]).expand(batch, -1, -1)  # (B, 1, D)
        between = [] if registers is None else [registers.expand(batch, -1, -1)]  # (B, R, D)
        return torch.cat((first, *between, patches.flatten(1, 2) + pos_embed[:, 1:]), dim=1)


class JoinedHead(nn.Module):
    """timm's head, as it sees CLS token and mean of patches joined ``(B, 2D)``: it takes one of both."""

    def __init__(self, head: nn.Module, pooling: str) -> None:
        super().__init__()
        self.head, self.part = head, 1 if pooling == "avg" else 0

    def forward(self, joined: Tensor) -> Tensor:
        return cast("Tensor", self.head(joined.chunk(2, dim=-1)[self.part]))  # (B, num_classes)


def build_timm(description: Description | None, spec: Dinov2Spec, shapes: Shapes) -> nn.Module:
    """Build timm's model of this spec.

    Args:
        description: what a ``config.json`` of timm's told, if there was one. Then the number of heads and all that
            shapes do not tell are its own, and not the spec's.
        shapes: of the state dict that timm wrote.

    Raises:
        CheckpointError: timm has no such model.
    """
    has_head = "head.weight" in shapes
    if spec.num_classes and not has_head:
        headline = f"{describe_timm(description)} has no classifier on the CLS token and the mean of patches."
        raise CheckpointError(headline, hint=BUNDLED_INSTEAD)
    from timm.layers.mlp import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    shaped: dict[str, object] = {
        "img_size": spec.image_size,
        "in_chans": spec.num_channels,
        "init_values": 1.0 if spec.layer_scale else None,
        "num_classes": spec.num_classes,
        "qkv_bias": spec.qkv_bias,
    }
    if has_head:
        # at the root of config.json, where timm itself does not read it
        pooling = (description or {}).get("global_pool", spec.global_pool)
        shaped |= {"global_pool": pooling, "fc_norm": False}
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
        "no_embed_class": shapes["pos_embed"][1] == spec.grid**2,
        **({} if has_head else {"global_pool": ""}),
        "dynamic_img_size": True,
    }
    model = adapt(build_model(take_any_size(description), VisionTransformer, shaped, **told), Adapter)
    model.interpolate_offset, model.interpolate_antialias = RESAMPLING
    # outside of its state dict, as the aliases are
    vars(model)["linear_head"] = JoinedHead(model.head, model.global_pool) if has_head else None
    for name in RETURNED:
        setattr(model, name, getattr(spec, name))
    for block in model.blocks:
        block.attn.fused_attn = True  # as the original's, whatever timm is set to
        if spec.ffn == "swiglu":
            _alias_modules(block.mlp)
    return cast("nn.Module", model)


def _alias_modules(mlp: nn.Module) -> None:
    """Let the modules of a gated feed-forward go by the original's names, too, outside of its state dict."""
    for alias, name in ALIASES.items():
        vars(mlp)[alias] = mlp.get_submodule(name)
