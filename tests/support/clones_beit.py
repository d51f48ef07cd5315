"""The modules of stand-ins for clones of the repositories of BEiT and Data2Vec-Vision: see ``clones.py``."""

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
