"""Stand-ins for clones of the authors' repositories, which tests cannot fetch.

They have the repositories' files, class names, constructors, parameter names and conventions, and what makes these hard
to run elsewhere: numbers read out of tensors while building, imports of each other by top-level names, a weight that is
used without calling its module, models entered into timm's table, tuples returned. The rest is the bundled originals'.
"""

from pathlib import Path

DINOV2_LAYERS = """
import os
from torch import nn
from torch.nn import functional as F
from conversion.families.dinov2.original import SwiGLU
from conversion.families.layers import LayerScale
from conversion.families.layers import Mlp, PatchEmbed

if os.environ.get("XFORMERS_DISABLED") is None:
    raise ImportError("xFormers would be used")


class Attention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, attn_bias=None):
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).unbind(2)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous().flatten(2))


class SwiGLUFFNFused(SwiGLU):
    def __init__(self, in_features, hidden_features):
        super().__init__(in_features, (int(hidden_features * 2 / 3) + 7) // 8 * 8)


class NestedTensorBlock(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, init_values, norm_layer, ffn_layer):
        super().__init__()
        self.norm1, self.attn, self.ls1 = norm_layer(dim), Attention(dim, num_heads), LayerScale(dim)
        self.norm2, self.mlp = norm_layer(dim), ffn_layer(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim)

    def forward(self, x_or_x_list):
        x = x_or_x_list + self.ls1(self.attn(self.norm1(x_or_x_list)))
        return x + self.ls2(self.mlp(self.norm2(x)))
"""

DINOV2_MODEL = """
from functools import partial
import torch
from torch import nn
from torch.nn.init import trunc_normal_
from conversion.mapping.tensors import resample_position_embeddings
from dinov2.layers import Mlp, NestedTensorBlock, PatchEmbed, SwiGLUFFNFused


class DinoVisionTransformer(nn.Module):
    def __init__(
        self, img_size=224, patch_size=16, in_chans=3, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4.0,
        drop_path_rate=0.0, init_values=None, ffn_layer="mlp", block_chunks=1,
        num_register_tokens=0, interpolate_antialias=False, interpolate_offset=0.1,
    ):
        super().__init__()
        norm_layer = partial(nn.LayerNorm, eps=1e-6)
        assert block_chunks == 0 and init_values
        assert not any([rate.item() for rate in torch.linspace(0, drop_path_rate, depth)])
        self.patch_size, self.num_register_tokens = patch_size, num_register_tokens
        self.interpolate_antialias, self.interpolate_offset = interpolate_antialias, interpolate_offset
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // patch_size) ** 2, embed_dim))
        registers = torch.zeros(1, num_register_tokens, embed_dim)
        self.register_tokens = nn.Parameter(registers) if num_register_tokens else None
        ffn = {"mlp": Mlp, "swiglufused": SwiGLUFFNFused}[ffn_layer]
        self.blocks = nn.ModuleList(
            [NestedTensorBlock(embed_dim, num_heads, mlp_ratio, init_values, norm_layer, ffn) for _ in range(depth)]
        )
        self.norm = norm_layer(embed_dim)
        self.head = nn.Identity()
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        trunc_normal_(self.pos_embed, std=0.02)

    def interpolate_pos_encoding(self, x, *grid):
        if grid[0] == grid[1] and grid[0] * grid[1] == self.pos_embed.shape[1] - 1:
            return self.pos_embed
        how = {"offset": self.interpolate_offset, "antialias": self.interpolate_antialias}
        return resample_position_embeddings(self.pos_embed, grid, **how)

    def forward_features(self, x, masks=None):
        grid = [side // self.patch_size for side in x.shape[2:]]
        x = self.patch_embed(x)
        if masks is not None:
            x = torch.where(masks[:, :, None], self.mask_token[None].to(x.dtype), x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = x + self.interpolate_pos_encoding(x, *grid)
        if self.register_tokens is not None:
            x = torch.cat((x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        for block in self.blocks:
            x = block(x)
        first, normed = 1 + self.num_register_tokens, self.norm(x)
        return {
            "x_norm_clstoken": normed[:, 0], "x_norm_regtokens": normed[:, 1:first],
            "x_norm_patchtokens": normed[:, first:], "x_prenorm": x, "masks": masks,
        }

    def forward(self, *args, is_training=False, **kwargs):
        features = self.forward_features(*args, **kwargs)
        return features if is_training else self.head(features["x_norm_clstoken"])
"""

BEIT_FINETUNE = """
import torch
from torch import nn
import torch.nn.functional as F
from timm.models.layers import to_2tuple, trunc_normal_
from timm.models.registry import register_model
from conversion.families.beit_architecture.original import RelativePositionBias, index_offsets
from conversion.families.layers import Mlp


class Attention(nn.Module):
    def __init__(self, dim, num_heads, window_size):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.relative_position_bias_table = None
        if window_size:
            self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2 + 3, num_heads))
            self.register_buffer("relative_position_index", index_offsets(window_size))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, rel_pos_bias=None):
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias, requires_grad=False), self.v_bias))
        qkv = F.linear(input=x, weight=self.qkv.weight, bias=bias)
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if self.relative_position_bias_table is not None:
            own = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1).contiguous()
            scores = scores + own[None]
        if rel_pos_bias is not None:
            scores = scores + rel_pos_bias
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, init_values, norm_layer, window_size):
        super().__init__()
        self.norm1, self.attn = norm_layer(dim), Attention(dim, num_heads, window_size)
        self.norm2, self.mlp = norm_layer(dim), Mlp(dim, int(dim * mlp_ratio))
        self.gamma_1 = nn.Parameter(init_values * torch.ones((dim)))
        self.gamma_2 = nn.Parameter(init_values * torch.ones((dim)))

    def forward(self, x, rel_pos_bias=None):
        x = x + self.gamma_1 * self.attn(self.norm1(x), rel_pos_bias=rel_pos_bias)
        fc_feature = self.gamma_2 * self.mlp(self.norm2(x))
        return x + fc_feature, fc_feature


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, embed_dim):
        super().__init__()
        self.patch_shape = to_2tuple(img_size // patch_size)
        self.proj = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size)

    def forward(self, x, **kwargs):
        return self.proj(x).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio, norm_layer, init_values,
                 use_abs_pos_emb, use_rel_pos_bias, use_shared_rel_pos_bias):
        super().__init__()
        self.patch_embed = PatchEmbed(img_size, patch_size, embed_dim)
        window = self.patch_embed.patch_shape[0]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, window**2 + 1, embed_dim)) if use_abs_pos_emb else None
        self.rel_pos_bias = RelativePositionBias(window, num_heads) if use_shared_rel_pos_bias else None
        assert not any([rate.item() for rate in torch.linspace(0, 0.0, depth)])
        own = window if use_rel_pos_bias else None
        self.blocks = nn.ModuleList(
            [Block(embed_dim, num_heads, mlp_ratio, init_values, norm_layer, own) for _ in range(depth)]
        )
        trunc_normal_(self.cls_token, std=0.02)
        for layer, block in enumerate(self.blocks):
            trunc_normal_(block.attn.qkv.weight, std=0.02)
            block.attn.proj.weight.data.div_((2.0 * (layer + 1)) ** 0.5)

    def encode(self, x, masked=None):
        x = self.patch_embed(x, bool_masked_pos=masked)
        if masked is not None:
            w = masked[:, :, None].type_as(x)
            x = x * (1 - w) + self.mask_token * w
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = x if self.pos_embed is None else x + self.pos_embed
        shared = self.rel_pos_bias() if self.rel_pos_bias is not None else None
        for block in self.blocks:
            x, _ = block(x, rel_pos_bias=shared)
        return x


class VisionTransformer(Encoder):
    def __init__(self, img_size=224, patch_size=16, num_classes=1000, embed_dim=768, depth=12, num_heads=12,
                 mlp_ratio=4., qkv_bias=False, norm_layer=nn.LayerNorm, init_values=None, use_abs_pos_emb=True,
                 use_rel_pos_bias=False, use_shared_rel_pos_bias=False, use_mean_pooling=True, init_scale=0.001):
        super().__init__(img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio, norm_layer, init_values,
                         use_abs_pos_emb, use_rel_pos_bias, use_shared_rel_pos_bias)
        self.norm = nn.Identity() if use_mean_pooling else norm_layer(embed_dim)
        self.fc_norm = norm_layer(embed_dim) if use_mean_pooling else None
        self.head = nn.Linear(embed_dim, num_classes)
        self.head.weight.data.mul_(init_scale)

    def forward_features(self, x, bool_masked_pos=None):
        x = self.norm(self.encode(x))
        return x[:, 0] if self.fc_norm is None else self.fc_norm(x[:, 1:].mean(1))

    def forward(self, x, bool_masked_pos=None):
        return self.head(self.forward_features(x, bool_masked_pos))


@register_model
def beit_base_patch16_224(pretrained=False, **kwargs):
    return VisionTransformer(**kwargs)
"""

BEIT_CYCLICAL = """
import torch
from torch import nn
from modeling_finetune import Encoder
from timm.models.registry import register_model

__all__ = ["beit_base_patch16_224"]


class VisionTransformerForCyclicalTraining(Encoder):
    def __init__(self, img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4.0,
                 qkv_bias=True, norm_layer=None, init_values=None, use_abs_pos_emb=True,
                 use_rel_pos_bias=False, use_shared_rel_pos_bias=False, init_std=0.02):
        super().__init__(img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio, norm_layer, init_values,
                         use_abs_pos_emb, use_rel_pos_bias, use_shared_rel_pos_bias)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.norm = norm_layer(embed_dim)
        self.lm_head = nn.Linear(embed_dim, embed_dim)

    def forward_features(self, x, bool_masked_pos, layer_results):
        assert not layer_results
        return self.norm(self.encode(x, bool_masked_pos))

    def forward(self, x, bool_masked_pos, return_all_tokens=False, layer_results=None):
        return self.lm_head(self.forward_features(x, bool_masked_pos, layer_results)[:, 1:][bool_masked_pos])


@register_model
def beit_base_patch16_224(pretrained=False, **kwargs):
    return VisionTransformerForCyclicalTraining(**kwargs)
"""

BEIT_PRETRAIN = """
import torch
from torch import nn
from modeling_finetune import Block, Encoder


class VisionTransformerForMaskedImageModeling(Encoder):
    def __init__(self, img_size=224, patch_size=16, vocab_size=8192, embed_dim=768, depth=12, num_heads=12,
                 mlp_ratio=4., qkv_bias=True, norm_layer=None, init_values=None, use_abs_pos_emb=True,
                 use_rel_pos_bias=False, use_shared_rel_pos_bias=False, init_std=0.02):
        super().__init__(img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio, norm_layer, init_values,
                         use_abs_pos_emb, use_rel_pos_bias, use_shared_rel_pos_bias)
        self.patch_embed.num_patches = self.patch_embed.patch_shape[0] ** 2
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.norm = norm_layer(embed_dim)
        self.lm_head = nn.Linear(embed_dim, vocab_size)

    def forward_features(self, x, bool_masked_pos):
        return self.norm(self.encode(x, bool_masked_pos))

    def forward(self, x, bool_masked_pos, return_all_tokens=False):
        return self.lm_head(self.forward_features(x, bool_masked_pos)[:, 1:][bool_masked_pos])


class VisionTransformerForMaskedImageModelingCLS(VisionTransformerForMaskedImageModeling):
    def __init__(self, img_size=224, patch_size=16, vocab_size=8192, embed_dim=768, depth=12, num_heads=12,
                 mlp_ratio=4., qkv_bias=True, norm_layer=None, init_values=None, use_abs_pos_emb=True,
                 use_rel_pos_bias=False, use_shared_rel_pos_bias=False, init_std=0.02,
                 early_layers=6, head_layers=2, shared_lm_head=True):
        super().__init__(img_size, patch_size, vocab_size, embed_dim, depth, num_heads, mlp_ratio, qkv_bias,
                         norm_layer, init_values, use_abs_pos_emb, use_rel_pos_bias, use_shared_rel_pos_bias)
        assert early_layers <= depth
        self.cls_pt_layers = nn.ModuleList(
            [Block(embed_dim, num_heads, mlp_ratio, init_values, norm_layer, None) for _ in range(head_layers)]
        )

    def forward_features(self, x, bool_masked_pos):
        tokens = super().forward_features(x, bool_masked_pos)
        return tokens, tokens + 1
"""

CLONES = {
    "dinov2": {
        "hubconf.py": "import dinov2.models.vision_transformer\ndependencies = ['torch']\n",
        "dinov2/__init__.py": "",
        "dinov2/layers/__init__.py": DINOV2_LAYERS,
        "dinov2/models/__init__.py": "from . import vision_transformer as vits\n",
        "dinov2/models/vision_transformer.py": DINOV2_MODEL,
    },
    "data2vec_vision": {
        "beit/utils.py": "raise ImportError('apex')\n",
        "beit/modeling_finetune.py": BEIT_FINETUNE,
        "beit/modeling_cyclical.py": BEIT_CYCLICAL,
    },
    "beit": {
        f"{folder}/{name}": text
        for folder in ("beit", "beit2")
        for name, text in (
            ("utils.py", "raise ImportError('apex')\n"),
            ("modeling_finetune.py", BEIT_FINETUNE),
            ("modeling_pretrain.py", BEIT_PRETRAIN),
        )
    },
}


def write_clone(family: str, root: Path) -> Path:
    """Write a family's stand-in clone."""
    for name, text in CLONES[family].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def edit_clone(name: str, old: str, new: str, root: Path) -> None:
    """Change a clone's text."""
    text = (root / name).read_text(encoding="utf-8")
    assert old in text
    (root / name).write_text(text.replace(old, new), encoding="utf-8")
