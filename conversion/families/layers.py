"""Layers that several originals compute alike, written to be read.

Shapes in comments: B images, N patches, T tokens, D width, H heads.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.vit import Spec


class PatchEmbed(nn.Module):
    """Each patch of pixels becomes a token."""

    def __init__(self, patch_size: int, embed_dim: int, num_channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(num_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.proj(pixel_values).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, N, D)


def mask_patches(tokens: Tensor, bool_masked_pos: Tensor | None, mask_token: Tensor | None) -> Tensor:
    """Put the mask token in the place of masked patches.

    Args:
        tokens: of the patches, ``(B, N, D)``.
        bool_masked_pos: ``(B, N)``, or None where nothing is masked.
        mask_token: broadcast to a token; None of a model that has none.

    Raises:
        ValueError: patches are to be masked, and there is no mask token.
    """
    if bool_masked_pos is None:
        return tokens
    if mask_token is None:
        raise ValueError("This model has no mask token: its patches cannot be masked.")
    return torch.where(bool_masked_pos.unsqueeze(-1), mask_token.to(tokens.dtype), tokens)


class Mlp(nn.Module):
    """Two layers with exact (erf) GELU between."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.fc2 = nn.Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value.

    Args:
        fused: call torch's scaled dot-product attention, as some authors do; else scores and softmax one by one.

    Attributes:
        softmax_dtype: to take the softmax in, if it is not the model's own.
    """

    softmax_dtype: torch.dtype | None = None

    def __init__(
        self, embed_dim: int, num_heads: int, *, fused: bool, qkv_bias: bool = True, proj_bias: bool = True
    ) -> None:
        super().__init__()
        self.num_heads, self.fused = num_heads, fused
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim, bias=proj_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.proj(self.attend(*self.project(tokens)))

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute query, key and value, ``(B, H, T, D/H)`` each."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, D/H)
        query, key, value = qkv.transpose(1, 3).unbind(2)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Sum the values as query and key tell: ``(B, T, D)``."""
        if self.fused and self.softmax_dtype is None:
            attended = F.scaled_dot_product_attention(query, key, value)  # (B, H, T, D/H)
        else:
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (B, H, T, T)
            attended = scores.softmax(dim=-1, dtype=self.softmax_dtype).to(value.dtype) @ value
        return attended.transpose(1, 2).flatten(2)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(embed_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class Block(nn.Module):
    """Attention and feed-forward, each normalised before, scaled after if the model does, and added to its input."""

    def __init__(self, spec: Spec, attn: nn.Module, mlp: nn.Module, *, layer_scale: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
        self.attn = attn
        self.ls1 = LayerScale(spec.embed_dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
        self.mlp = mlp
        self.ls2 = LayerScale(spec.embed_dim) if layer_scale else nn.Identity()

    def forward(self, tokens: Tensor, *positions: Tensor) -> Tensor:
        """Run the block.

        Args:
            tokens: ``(B, T, D)``.
            positions: what the attention is given beside them.
        """
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), *positions))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class Transformer(nn.Module):
    """A transformer of blocks, of which a deviation may ask to take every softmax in another dtype."""

    blocks: nn.ModuleList

    @property
    def softmax_dtype(self) -> torch.dtype | None:
        """What every block takes its softmax in, if it is not the model's own dtype."""
        return next((block.attn.softmax_dtype for block in self.blocks), None)  # type: ignore[union-attr, return-value]

    @softmax_dtype.setter
    def softmax_dtype(self, dtype: torch.dtype | None) -> None:
        for block in self.blocks:
            block.attn.softmax_dtype = dtype  # type: ignore[union-attr]


class VisionTransformer(Transformer):
    """The parts of a plain vision transformer; a family's original puts them together, and adds its own."""

    def __init__(self, spec: Spec, blocks: Iterable[Block]) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + spec.grid**2, spec.embed_dim))
        self.patch_embed = PatchEmbed(spec.patch_size, spec.embed_dim, spec.num_channels)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
