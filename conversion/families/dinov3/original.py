"""DINOv3's vision transformers as their authors compute them, written to be read.

Parameter names and arithmetic are those of ``dinov3/models/vision_transformer.py`` and ``dinov3/layers/`` in
facebookresearch/dinov3; the text is our own. Paper: https://arxiv.org/abs/2508.10104. Proven against outputs recorded
from the original code (``fixtures/golden``).

Shapes in comments: B images, N patches, R storage tokens, T = 1 + R + N tokens, D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.dinov3.config import Dinov3Spec
from conversion.families.dinov3.rotary import RotaryPositions, rotate
from conversion.families.layers import Attention, Block, Mlp, PatchEmbed, Transformer, mask_patches


def build_bias_mask(width: int) -> Tensor:
    """Build the mask of a fused bias ``(3D,)`` that takes key's third away."""
    return torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(width // 3)


class MaskedBiasLinear(nn.Linear):
    """A linear layer whose bias counts only where a mask is 1: key's third of it is 0."""

    bias_mask: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("bias_mask", torch.ones(out_features))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(tokens, self.weight, self.bias * self.bias_mask)


class RotaryAttention(Attention):
    """Multi-head self-attention; query and key of the patches are rotated by their places."""

    def __init__(self, spec: Dinov3Spec) -> None:
        width = spec.embed_dim
        super().__init__(width, spec.num_heads, fused=True, qkv_bias=spec.qkv_bias, proj_bias=spec.proj_bias)
        if spec.masks_key_bias:
            self.qkv = MaskedBiasLinear(width, 3 * width)

    def forward(self, tokens: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:  # type: ignore[override]
        query, key, value = self.project(tokens)
        query, key = rotate(query, sine, cosine), rotate(key, sine, cosine)
        return self.proj(self.attend(query, key, value))


class SwiGLU(nn.Module):
    """Gated feed-forward; ``w1`` is the gate."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.w1 = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.w2 = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.w3 = nn.Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(tokens)) * self.w2(tokens))


def build_block(spec: Dinov3Spec) -> Block:
    """Attention with rotary positions, and one of two feed-forwards."""
    mlp = (SwiGLU if spec.is_gated else Mlp)(spec.embed_dim, spec.hidden_dim, bias=spec.ffn_bias)
    return Block(spec, RotaryAttention(spec), mlp, layer_scale=spec.layer_scale)


class Dinov3(Transformer):
    """The vision transformer.

    Attributes:
        computes_frequencies: leave the checkpoint's periods aside, as transformers does.
    """

    def __init__(self, spec: Dinov3Spec) -> None:
        super().__init__()
        width = spec.embed_dim
        self.patch_size, self.num_storage_tokens = spec.patch_size, spec.num_storage_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.storage_tokens = (
            nn.Parameter(torch.zeros(1, spec.num_storage_tokens, width)) if spec.storage_tokens else None
        )
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if spec.mask_token else None
        self.patch_embed = PatchEmbed(spec.patch_size, width, spec.num_channels)
        self.rope_embed = RotaryPositions(spec.head_dim, spec.rope_theta)
        self.blocks = nn.ModuleList(build_block(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(width, eps=spec.layer_norm_eps)
        if spec.local_cls_norm:
            self.local_cls_norm = nn.LayerNorm(width, eps=spec.layer_norm_eps)

    @property
    def computes_frequencies(self) -> bool:
        return self.rope_embed.computes_frequencies

    @computes_frequencies.setter
    def computes_frequencies(self, does: bool) -> None:
        self.rope_embed.computes_frequencies = does

    def prepare_tokens(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> Tensor:
        """Patches, masked where asked, behind the CLS token and the storage tokens.

        Args:
            pixel_values: ``(B, channels, height, width)``.
            bool_masked_pos: ``(B, N)``, True where the mask token stands in for the patch.

        Returns:
            ``(B, T, D)``.

        Raises:
            ValueError: patches are to be masked, and there is no mask token.
        """
        tokens = self.patch_embed(pixel_values)  # (B, N, D)
        tokens = mask_patches(tokens, bool_masked_pos, self.mask_token)
        leading = [self.cls_token] if self.storage_tokens is None else [self.cls_token, self.storage_tokens]
        return torch.cat([*(each.expand(len(tokens), -1, -1) for each in leading), tokens], dim=1)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model.

        Returns:
            ``x_norm_clstoken`` ``(B, D)``, ``x_storage_tokens`` ``(B, R, D)``, ``x_norm_patchtokens`` ``(B, N, D)``.
        """
        tokens = self.prepare_tokens(pixel_values, bool_masked_pos)
        sine, cosine = self.rope_embed(*(side // self.patch_size for side in pixel_values.shape[-2:]))
        for block in self.blocks:
            tokens = block(tokens, sine, cosine)
        tokens = self.norm(tokens)
        first_patch = 1 + self.num_storage_tokens
        return {
            "x_norm_clstoken": tokens[:, 0],
            "x_storage_tokens": tokens[:, 1:first_patch],
            "x_norm_patchtokens": tokens[:, first_patch:],
        }
