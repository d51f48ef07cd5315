"""Layers that several originals compute alike, written to be read.

Shapes in comments: B images, N patches, D width.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbed(nn.Module):
    """Each patch of pixels becomes a token."""

    def __init__(self, patch_size: int, embed_dim: int, num_channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(num_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.proj(pixel_values).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, N, D)


class Mlp(nn.Module):
    """Two layers with exact (erf) GELU between."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim, bias=bias)
        self.fc2 = nn.Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))
