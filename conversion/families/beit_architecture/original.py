"""BEiT's architecture as its authors compute it, written to be read.

Parameter names and arithmetic are those of ``beit/modeling_pretrain.py`` and ``beit/modeling_finetune.py`` in
microsoft/unilm (BEiT v2's, in ``beit2/``, are the same), and of ``beit/modeling_cyclical.py`` in
facebookresearch/data2vec_vision; the text is our own. Papers: https://arxiv.org/abs/2106.08254 (BEiT),
https://arxiv.org/abs/2208.06366 (BEiT v2), https://arxiv.org/abs/2202.03555 (data2vec). Proven against outputs recorded
from the original code (``fixtures/golden``).

Shapes in comments: B images, N = window^2 patches, T = 1 + N tokens, D width, H heads.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.layers import Mlp, PatchEmbed, Transformer


class RelativePositionBias(nn.Module):
    """A bias of the attention scores for the offset between two patches, shared by all blocks."""

    relative_position_index: Tensor

    def __init__(self, window: int, num_heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(count_offsets(window), num_heads))
        self.register_buffer("relative_position_index", index_offsets(window))

    def forward(self) -> Tensor:
        return look_up(self.relative_position_bias_table, self.relative_position_index)


class FusedProjection(nn.Linear):
    """Query, key and value in one product; the bias is put together outside, since key has none."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim, 3 * embed_dim, bias=False)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        return F.linear(tokens, self.weight, bias)


class Attention(nn.Module):
    """Multi-head self-attention: one fused projection, with a bias for query and value or none, and none for key.

    Attributes:
        softmax_dtype: to take the softmax in, if it is not the model's own.
    """

    relative_position_index: Tensor
    softmax_dtype: torch.dtype | None = None

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.qkv = FusedProjection(spec.embed_dim)
        self.q_bias = nn.Parameter(torch.zeros(spec.embed_dim)) if spec.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(spec.embed_dim)) if spec.qkv_bias else None
        self.has_position_bias = spec.block_position_bias
        if spec.block_position_bias:
            self.relative_position_bias_table = nn.Parameter(torch.zeros(count_offsets(spec.grid), spec.num_heads))
            self.register_buffer("relative_position_index", index_offsets(spec.grid))
        self.proj = nn.Linear(spec.embed_dim, spec.embed_dim)

    def forward(self, tokens: Tensor, shared_bias: Tensor | None) -> Tensor:
        bias = None
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))  # (3D,)
        qkv = self.qkv(tokens, bias).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, D/H)
        query, key, value = qkv.transpose(1, 3).unbind(2)  # 3 x (B, H, T, D/H)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, H, T, T)
        if self.has_position_bias:
            scores = scores + look_up(self.relative_position_bias_table, self.relative_position_index)
        if shared_bias is not None:
            scores = scores + shared_bias
        attended = scores.softmax(dim=-1, dtype=self.softmax_dtype).to(value.dtype) @ value  # (B, H, T, D/H)
        return self.proj(attended.transpose(1, 2).flatten(2))  # (B, T, D)


class Block(nn.Module):
    """Attention and feed-forward, each normalised before, scaled after if the model does, and added to its input."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.ones(spec.embed_dim)) if spec.layer_scale else None
        self.gamma_2 = nn.Parameter(torch.ones(spec.embed_dim)) if spec.layer_scale else None
        self.norm1 = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
        self.attn = Attention(spec)
        self.norm2 = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
        self.mlp = Mlp(spec.embed_dim, spec.hidden_dim)

    def forward(self, tokens: Tensor, shared_bias: Tensor | None) -> Tensor:
        tokens = tokens + scale(self.attn(self.norm1(tokens), shared_bias), self.gamma_1)
        return tokens + scale(self.mlp(self.norm2(tokens)), self.gamma_2)


def scale(tokens: Tensor, gamma: Tensor | None) -> Tensor:
    """Multiply with a factor per channel, if there is one."""
    return tokens if gamma is None else gamma * tokens


class Encoder(Transformer):
    """What all models have in common: from pixels to the last block's tokens."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__()
        self.image_size = spec.image_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, spec.embed_dim)) if spec.mask_token else None
        positions = torch.zeros(1, 1 + spec.grid**2, spec.embed_dim)
        self.pos_embed = nn.Parameter(positions) if spec.absolute_positions else None
        self.patch_embed = PatchEmbed(spec.patch_size, spec.embed_dim, spec.num_channels)
        self.rel_pos_bias = RelativePositionBias(spec.grid, spec.num_heads) if spec.shared_position_bias else None
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))

    def prepare_tokens(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> Tensor:
        """Patches, masked where asked, behind the CLS token, with positions added if the model has any.

        Args:
            pixel_values: ``(B, channels, image_size, image_size)``.
            bool_masked_pos: ``(B, N)``, True where the mask token stands in for the patch.

        Returns:
            ``(B, T, D)``.

        Raises:
            ValueError: the image has another size than the model.
        """
        batch, _, height, width = pixel_values.shape
        if height != self.image_size or width != self.image_size:
            raise ValueError(f"Images are {height} x {width}; this model takes {self.image_size} x {self.image_size}.")
        tokens = self.patch_embed(pixel_values)  # (B, N, D)
        if bool_masked_pos is not None:
            if self.mask_token is None:
                raise ValueError("This model has no mask token: its patches cannot be masked.")
            masked = bool_masked_pos.unsqueeze(-1).type_as(tokens)  # (B, N, 1)
            tokens = tokens * (1 - masked) + self.mask_token * masked
        tokens = torch.cat((self.cls_token.expand(batch, -1, -1), tokens), dim=1)  # (B, T, D)
        return tokens if self.pos_embed is None else tokens + self.pos_embed

    def encode(
        self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None, after: Iterable[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Compute the tokens after the last block, ``(B, T, D)``, and those after some others, by the block's index.

        Tokens after block -1 are those that the first block is given.
        """
        tokens = self.prepare_tokens(pixel_values, bool_masked_pos)
        kept, chosen = {-1: tokens}, set(after)
        shared_bias = None if self.rel_pos_bias is None else self.rel_pos_bias()  # (H, T, T)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, shared_bias)
            if index in chosen:
                kept[index] = tokens
        return tokens, kept


class PretrainedModel(Encoder):
    """Pretrained: tokens through a final norm."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__(spec)
        self.norm = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``last_hidden_state`` ``(B, T, D)``."""
        tokens, _ = self.encode(pixel_values, bool_masked_pos)
        return {"last_hidden_state": self.norm(tokens)}


class MaskedImageModel(PretrainedModel):
    """Pretrained by masked image modeling: for every patch, how likely each word of a visual vocabulary is."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__(spec)
        self.lm_head = nn.Linear(spec.embed_dim, spec.vocab_size)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``last_hidden_state`` ``(B, T, D)``, ``logits`` of every patch ``(B, N, vocab_size)``."""
        outputs = super().forward(pixel_values, bool_masked_pos)
        return {**outputs, "logits": self.lm_head(outputs["last_hidden_state"][:, 1:])}


class Classifier(Encoder):
    """Fine-tuned: the mean of the patch tokens through a norm, or the normed CLS token; and a linear layer, if any."""

    def __init__(self, spec: BeitLikeSpec) -> None:
        super().__init__(spec)
        norm = nn.LayerNorm(spec.embed_dim, eps=spec.layer_norm_eps)
        self.norm = nn.Identity() if spec.mean_pooling else norm
        self.fc_norm = norm if spec.mean_pooling else None
        self.head = nn.Linear(spec.embed_dim, spec.num_classes) if spec.num_classes else nn.Identity()

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``pooled`` ``(B, D)``, ``logits`` ``(B, num_classes)``."""
        tokens, _ = self.encode(pixel_values, bool_masked_pos)
        tokens = self.norm(tokens)
        pooled = tokens[:, 0] if self.fc_norm is None else self.fc_norm(tokens[:, 1:].mean(1))
        return {"pooled": pooled, "logits": self.head(pooled)}


def count_offsets(window: int) -> int:
    """Count the rows of a table of relative positions.

    One for each offset between two patches of a square window, and three more: from the CLS token to a patch, from a
    patch to the CLS token, and from the CLS token to itself.
    """
    return (2 * window - 1) ** 2 + 3


def index_offsets(window: int) -> Tensor:
    """Find the table's row for every pair of tokens, ``(T, T)``, int64: from the token of the row to the column's."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()  # (N,)
    down = rows.unsqueeze(1) - rows + window - 1  # (N, N), from 0
    right = columns.unsqueeze(1) - columns + window - 1  # (N, N), from 0
    num_offsets = count_offsets(window)
    index = torch.zeros(1 + window**2, 1 + window**2, dtype=torch.int64)
    index[1:, 1:] = down * (2 * window - 1) + right
    index[0, :] = num_offsets - 3
    index[:, 0] = num_offsets - 2
    index[0, 0] = num_offsets - 1
    return index


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Look up the bias of every pair of tokens: ``(offsets, H)`` and ``(T, T)`` give ``(H, T, T)``."""
    return table[index].permute(2, 0, 1).contiguous()


def derive_position_indices(spec: BeitLikeSpec) -> dict[str, Tensor]:
    """Compute the index tensors of the original state dict, which follow from the window's size."""
    modules = [f"blocks.{i}.attn" for i in range(spec.depth)] if spec.block_position_bias else []
    modules += ["rel_pos_bias"] if spec.shared_position_bias else []
    index = index_offsets(spec.grid)
    return {f"{spec.original_prefix}{module}.relative_position_index": index for module in modules}
