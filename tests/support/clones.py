"""Stand-ins for clones of the authors' repositories, which tests cannot fetch.

They have the repositories' files, class names, constructors, parameter names and conventions, and what makes these hard
to run elsewhere: numbers read out of tensors while building, imports of each other by top-level names, a weight that is
used without calling its module, models entered into timm's table, tuples returned. The rest is the bundled originals'.
"""

from pathlib import Path

from tests.support.clones_beit import BEIT_CYCLICAL, BEIT_FINETUNE, BEIT_PRETRAIN

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

    def prepare_tokens_with_masks(self, x, masks=None):
        grid = [side // self.patch_size for side in x.shape[2:]]
        x = self.patch_embed(x)
        if masks is not None:
            x = torch.where(masks[:, :, None], self.mask_token[None].to(x.dtype), x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = x + self.interpolate_pos_encoding(x, *grid)
        if self.register_tokens is not None:
            x = torch.cat((x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        return x

    def _get_intermediate_layers_not_chunked(self, x, n=1):
        x, taken = self.prepare_tokens_with_masks(x), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            taken += [x] if number in n else []
        return taken

    def get_intermediate_layers(self, x, n=1, reshape=False, return_class_token=False, norm=True):
        grid = [side // self.patch_size for side in x.shape[2:]]
        taken = self._get_intermediate_layers_not_chunked(x, n)
        taken = [self.norm(each) for each in taken] if norm else taken
        taken = [each[:, 1 + self.num_register_tokens :] for each in taken]
        return tuple(each.reshape(len(x), *grid, -1).permute(0, 3, 1, 2) for each in taken) if reshape else tuple(taken)

    def forward_features(self, x, masks=None):
        x = self.prepare_tokens_with_masks(x, masks)
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
