"""DINOv2 as its authors compute it, written to be read.

Parameter names and arithmetic are those of ``dinov2/models/vision_transformer.py`` and ``dinov2/layers/`` in
facebookresearch/dinov2; the text is our own. Paper: https://arxiv.org/abs/2304.07193; registers:
https://arxiv.org/abs/2309.16588. Proven against outputs recorded from the original code (``fixtures/golden``).

Shapes in comments: B images, N patches, R registers, T = 1 + R + N tokens, D width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.errors import CheckpointError
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.image_sizes import check_image_size
from conversion.families.layers import Attention, Block, Mlp, VisionTransformer, mask_patches
from conversion.mapping.tensors import resample_position_embeddings

S = TypeVar("S", bound=Dinov2Spec)


class SwiGLU(nn.Module):
    """Gated feed-forward; the first half of ``w12`` is the gate."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.w12 = nn.Linear(embed_dim, 2 * hidden_dim, bias=bias)
        self.w3 = nn.Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, up = self.w12(tokens).chunk(2, dim=-1)  # 2 x (B, T, hidden)
        return self.w3(F.silu(gate) * up)


def build_block(spec: Dinov2Spec) -> Block:
    """Attention by torch's scaled dot-product attention, and one of two feed-forwards."""
    attention = Attention(spec.embed_dim, spec.num_heads, fused=True, qkv_bias=spec.qkv_bias, proj_bias=spec.proj_bias)
    mlp = (SwiGLU if spec.ffn == "swiglu" else Mlp)(spec.embed_dim, spec.hidden_dim, bias=spec.ffn_bias)
    return Block(spec, attention, mlp, layer_scale=spec.layer_scale)


class Dinov2(VisionTransformer):
    """The vision transformer, and the 1-layer linear head of the ImageNet classifiers where the spec has classes.

    Attributes:
        interpolate_offset, interpolate_antialias: added to the patch grid when position embeddings are resampled, and
            whether with antialias. In the official models 0.1 and False, with registers 0 and True; None where nobody
            told.
    """

    def __init__(self, spec: Dinov2Spec) -> None:
        super().__init__(spec, (build_block(spec) for _ in range(spec.depth)))
        self.patch_size = spec.patch_size
        self.num_register_tokens = spec.num_register_tokens
        self.interpolate_offset, self.interpolate_antialias = spec.interpolate_offset, spec.interpolate_antialias
        if spec.num_register_tokens:
            self.register_tokens = nn.Parameter(torch.zeros(1, spec.num_register_tokens, spec.embed_dim))
        self.out_indices = spec.out_indices
        self.apply_layernorm, self.reshape_hidden_states = bool(spec.apply_layernorm), bool(spec.reshape_hidden_states)
        self.mask_token = nn.Parameter(torch.zeros(1, spec.embed_dim)) if spec.mask_token else None
        self.linear_head = nn.Linear(2 * spec.embed_dim, spec.num_classes) if spec.num_classes else None

    def prepare_tokens(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> Tensor:
        """Patches, masked where asked, behind the CLS token; positions added; registers, which have none, put between.

        Args:
            pixel_values: ``(B, channels, height, width)``.
            bool_masked_pos: ``(B, N)``, True where the mask token stands in for the patch.

        Returns:
            ``(B, T, D)``.

        Raises:
            ValueError: patches are to be masked, and there is no mask token.
        """
        batch, _, height, width = pixel_values.shape
        tokens = self.patch_embed(pixel_values)  # (B, N, D)
        tokens = mask_patches(tokens, bool_masked_pos, self.mask_token)
        tokens = torch.cat((self.cls_token.expand(batch, -1, -1), tokens), dim=1)  # (B, 1 + N, D)
        tokens = tokens + self.position_embeddings(height, width)
        if not self.num_register_tokens:
            return tokens
        registers = self.register_tokens.expand(batch, -1, -1)  # (B, R, D)
        return torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)  # (B, 1 + R + N, D)

    def position_embeddings(self, height: int, width: int) -> Tensor:
        """Choose or resample position embeddings for an image of this size in pixels: ``(1, 1 + N, D)``."""
        grid = height // self.patch_size, width // self.patch_size
        if height == width and grid[0] * grid[1] == self.pos_embed.shape[1] - 1:
            return self.pos_embed
        return _resample(self.pos_embed, grid, self.interpolate_offset, self.interpolate_antialias)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Any]:
        """Run the model.

        Returns:
            ``x_norm_clstoken`` ``(B, D)``, ``x_norm_regtokens`` ``(B, R, D)``, ``x_norm_patchtokens`` ``(B, N, D)``,
            and, of a classifier, ``logits`` ``(B, num_classes)``; of a feature backbone, ``feature_maps``, as the
            authors' ``get_intermediate_layers`` gives them: ``(B, D, h, w)`` each, or all tokens ``(B, T, D)``.
        """
        if self.out_indices:
            return {"feature_maps": self.compute_features(pixel_values)}
        tokens = self.prepare_tokens(pixel_values, bool_masked_pos)
        for block in self.blocks:
            tokens = block(tokens)
        outputs = self._part_tokens(self.norm(tokens))
        if self.linear_head is not None:
            outputs["logits"] = self.linear_head(
                torch.cat((outputs["x_norm_clstoken"], outputs["x_norm_patchtokens"].mean(dim=1)), dim=-1)  # (B, 2D)
            )
        return outputs

    def compute_features(self, pixel_values: Tensor) -> list[Tensor]:
        """Compute what a feature backbone returns."""
        outputs = self.list_outputs(pixel_values, self.out_indices, norm=self.apply_layernorm)
        if self.reshape_hidden_states:
            grid = [side // self.patch_size for side in pixel_values.shape[2:]]
            patches = [tokens[:, 1 + self.num_register_tokens :] for tokens in outputs]  # (B, N, D)
            outputs = [each.transpose(1, 2).unflatten(-1, grid) for each in patches]  # (B, D, h, w)
        return outputs

    def get_intermediate_layers(self, pixel_values: Tensor, layers: int | Iterable[int] = 1) -> list[Tensor]:
        """Compute the patch tokens after chosen blocks, each through the final norm.

        Args:
            layers: how many of the last blocks, or which blocks by index.

        Returns:
            a tensor ``(B, N, D)`` for each, in the order of the blocks.
        """
        depth = len(self.blocks)
        chosen = range(depth - layers, depth) if isinstance(layers, int) else layers
        return [self._part_tokens(each)["x_norm_patchtokens"] for each in self.list_outputs(pixel_values, chosen)]

    def list_outputs(self, pixel_values: Tensor, blocks: Iterable[int], *, norm: bool = True) -> list[Tensor]:
        """Compute the outputs ``(B, T, D)`` of chosen blocks, each through the final norm unless told otherwise."""
        chosen, outputs, tokens = set(blocks), [], self.prepare_tokens(pixel_values)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in chosen:
                outputs.append(self.norm(tokens) if norm else tokens)
        return outputs

    def _part_tokens(self, tokens: Tensor) -> dict[str, Tensor]:
        first_patch = 1 + self.num_register_tokens
        return {
            "x_norm_clstoken": tokens[:, 0],
            "x_norm_regtokens": tokens[:, 1:first_patch],
            "x_norm_patchtokens": tokens[:, first_patch:],
        }


def _resample(pos_embed: Tensor, grid: tuple[int, int], offset: float | None, antialias: bool | None) -> Tensor:
    if offset is None or antialias is None:
        raise CheckpointError(
            "This model takes its native image size only: nothing tells how it resamples position embeddings.",
            hint="Give interpolate_offset and interpolate_antialias (--interpolate-offset, --interpolate-antialias).",
        )
    return resample_position_embeddings(pos_embed, grid, offset=offset, antialias=antialias)


def bake_image_size(state_dict: Mapping[str, Tensor], spec: S, image_size: int) -> tuple[dict[str, Tensor], S]:
    """Make ``image_size`` the native size, with the position embeddings that the original computes there at run time.

    Args:
        image_size: side of a square image in pixels, a multiple of the patch size.

    Returns:
        the state dict with ``pos_embed`` ``(1, 1 + (image_size / patch_size) ** 2, D)``, of half precision in float32,
        which is what the original resamples in; and its spec.

    Raises:
        CheckpointError: the size is not a multiple of the patch size, or nobody told how to resample.
    """
    check_image_size(spec, image_size)
    grid = image_size // spec.patch_size
    if grid == spec.grid:
        return dict(state_dict), spec
    key = f"{spec.original_prefix}pos_embed"
    pos_embed = state_dict[key].to(torch.promote_types(state_dict[key].dtype, torch.float32))
    pos_embed = _resample(pos_embed, (grid, grid), spec.interpolate_offset, spec.interpolate_antialias)
    return {**state_dict, key: pos_embed}, replace(spec, image_size=image_size)
