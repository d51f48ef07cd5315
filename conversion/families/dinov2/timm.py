"""DINOv2 as timm writes it, brought back to the original's keys.

timm folds away what it does not use. Of registers it has no position embeddings, and the CLS token has its own added
already, so that the original's is put back as zeros; masked training has no part in it, and its mask token is gone.
Source: timm's ``vision_transformer.py``, where it reads original checkpoints.
"""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

RENAMED = {"reg_token": "register_tokens"}

# of the gated feed-forward, which timm gives the names of a plain one
SWIGLU = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3."}


def translate(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """An original state dict from timm's, and what was done; any other one as it is.

    Returns:
        the state dict: tensors that timm folded into others are zeros, of the shape that the original has.
    """
    if not is_timms(state_dict):
        return dict(state_dict), ""
    names = {key: RENAMED.get(key, key) for key in state_dict}
    if is_gated(state_dict):
        names = {key: _rename_gated(name) for key, name in names.items()}
    translated = {name: state_dict[key] for key, name in names.items()}
    pos_embed = translated["pos_embed"]
    width = pos_embed.shape[-1]
    did = ["timm's names and tensors brought back; it keeps no mask token: patches cannot be masked"]
    if "register_tokens" in translated:
        # timm adds positions to patches alone; zeros, added to the CLS token, leave it as it is
        translated["pos_embed"] = torch.cat((pos_embed.new_zeros(1, 1, width), pos_embed), dim=1)  # (1, 1 + N, D)
        did.append("the position embedding of the CLS token is folded into it: zeros stand for it")
    warnings.warn(f"No mask token: taken for a checkpoint of timm's. {'; '.join(did)}.", stacklevel=2)
    return translated, "; ".join(did)


def is_timms(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of timm's DINOv2: its layer scale's, and no mask token, which the original has."""
    has_layer_scale = any(key.endswith(".ls1.gamma") for key in state_dict)
    pos_embed = state_dict.get("pos_embed")
    is_whole = pos_embed is not None and pos_embed.ndim == 3 and "patch_embed.proj.weight" in state_dict
    return has_layer_scale and is_whole and "mask_token" not in state_dict and "register_tokens" not in state_dict


def is_gated(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the feed-forward is gated: what goes in is twice as wide as what comes out of the gate."""
    into, out = state_dict.get("blocks.0.mlp.fc1.weight"), state_dict.get("blocks.0.mlp.fc2.weight")
    return into is not None and out is not None and into.ndim == out.ndim == 2 and into.shape[0] == 2 * out.shape[1]


def _rename_gated(name: str) -> str:
    for theirs, ours in SWIGLU.items():
        name = name.replace(theirs, ours)
    return name
