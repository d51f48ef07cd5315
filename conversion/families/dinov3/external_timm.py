"""DINOv3 by timm's own code, its ``Eva`` model."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.dinov3.rotary import RotaryPositions
from conversion.families.dinov3.timm import check_described, has_positions
from conversion.families.external import Projection
from conversion.families.timm_code import (
    BUNDLED_INSTEAD,
    DESCRIBE_ROTARY,
    Description,
    adapt,
    build_model,
    describe_timm,
    refuse_masks,
    take_any_size,
)
from conversion.mapping.key_map import Shapes

ALIASES = {"w1": "fc1_g", "w2": "fc1_x", "w3": "fc2"}
"""The original's name of a layer of the gated feed-forward, where timm has another: capture points use it."""


class Adapter(nn.Module):
    """What makes timm's ``Eva`` take and return what the bundled original does; to be put before it.

    Attributes:
        computes_frequencies: rotate by the frequencies that transformers computes from the base, and not by timm's own
            angles: a counterfactual.
        theta: that base.
    """

    computes_frequencies: bool
    theta: float
    num_prefix_tokens: int
    rope: Any
    forward_features: Callable[[Tensor], Tensor]

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: what the bundled ``Dinov3.forward`` returns.

        Raises:
            ValueError: patches are to be masked.
        """
        refuse_masks(bool_masked_pos)
        tokens = self.forward_features(pixel_values)
        return {
            "x_norm_clstoken": tokens[:, 0],
            "x_storage_tokens": tokens[:, 1 : self.num_prefix_tokens],
            "x_norm_patchtokens": tokens[:, self.num_prefix_tokens :],
        }

    def _pos_embed(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Put the other tokens before, and compute the angles of the patches.

        Args:
            patches: ``(B, height, width, D)``.

        Returns:
            the tokens ``(B, T, D)``; sines and then cosines of the patches, ``(N, 2D/H)``.
        """
        rows, columns = patches.shape[1:3]
        tokens, waves = super()._pos_embed(patches)  # type: ignore[misc]
        if self.computes_frequencies:
            positions = RotaryPositions(self.rope.dim, self.theta).to(patches.device)
            positions.computes_frequencies = True
            waves = torch.cat(positions(rows, columns), dim=-1)
        return tokens, waves


class Packed(nn.Module):
    """A layer of gate and up in one, to be put before timm's: each half passes a module that capture points see."""

    w1: nn.Module
    w2: nn.Module

    def forward(self, tokens: Tensor) -> Tensor:
        gate, up = super().forward(tokens).chunk(2, dim=-1)
        return torch.cat((self.w1(gate), self.w2(up)), dim=-1)  # (B, T, 2H), as it was


def build_timm(description: Description | None, spec: Dinov3Spec, _shapes: Shapes) -> nn.Module:
    """Build the model of timm's that a ``config.json`` describes.

    Args:
        description: the rotary positions and the number of heads are its own, and not the spec's.

    Raises:
        CheckpointError: there is none, or timm has no such model.
    """
    if description is None:
        raise CheckpointError(
            "Nothing tells which of timm's models this is.", hint=f"{DESCRIBE_ROTARY} {BUNDLED_INSTEAD}"
        )
    shaped = {"in_chans": spec.num_channels, "num_classes": 0, "qkv_bias": spec.qkv_bias}
    model = build_model(take_any_size(description), nn.Module, shaped)
    if not has_positions(model):
        headline = f"{describe_timm(description)}: a {type(model).__name__}, which is no DINOv3."
        raise CheckpointError(headline, hint="If config.json is another checkpoint's, move it away.")
    check_described(model, description)
    adapted = adapt(model, Adapter)
    adapted.computes_frequencies, adapted.theta = False, spec.rope_theta
    for block in adapted.blocks:
        block.attn.fused_attn = True  # as the original's, whatever timm is set to
        if block.attn.q_bias is not None:
            block.attn.qkv = Projection(block.attn.qkv.weight)  # of which timm takes the weight only, past all hooks
        if spec.is_gated:
            _alias_layers(block.mlp)
    return cast("nn.Module", adapted)


def _alias_layers(mlp: nn.Module) -> None:
    """Let the layers of a gated feed-forward go by the original's names, too, outside of its state dict."""
    if hasattr(mlp, "fc1_g"):
        for alias, name in ALIASES.items():
            vars(mlp)[alias] = mlp.get_submodule(name)
        return
    layer = adapt(mlp.get_submodule("fc1"), Packed)
    for alias in ("w1", "w2"):
        vars(layer)[alias] = vars(mlp)[alias] = nn.Identity()
