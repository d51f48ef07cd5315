"""DINOv3 as timm writes it, brought back to the original's keys.

timm has DINOv3 as one of its ``Eva`` models, which differ in what no tensor shows: the kind of rotary positions, their
base, and the number of heads. So the ``config.json`` beside a file has to name the architecture, and timm's own model
of that name is asked. It computes the periods of rotary positions in float32 and keeps them out of its files; they are
put in. Of a fused bias it keeps query's and value's thirds, and key has none: zeros and the original's mask stand in.
Source: timm's ``eva.py``, and ``RotaryEmbeddingDinoV3`` in its ``pos_embed_sincos.py``.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.dinov3.original import build_bias_mask
from conversion.families.dinov3.rotary import RotaryPositions
from conversion.families.shapes import WHOLE, has_any
from conversion.families.timm_code import Description, build_model, compute_buffers, is_packed, refuse_foreign
from conversion.mapping.key_map import shapes_of

# what a key of timm's is called in the original
RENAMED = {"reg_token": "storage_tokens"}

# likewise, a part of the key of a block's tensor
PARTS = {".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}

# of the gated feed-forward; timm may have gate and up in one tensor, the gate first
SWIGLU = {".mlp.fc1_g.": ".mlp.w1.", ".mlp.fc1_x.": ".mlp.w2.", ".mlp.fc2.": ".mlp.w3."}
PACKED, HALVES = ".mlp.fc1.", (".mlp.w1.", ".mlp.w2.")

QUERY_BIAS, VALUE_BIAS, FUSED_BIAS, MASK = ".attn.q_bias", ".attn.v_bias", ".attn.qkv.bias", ".attn.qkv.bias_mask"

PERIODS = "rope_embed.periods"

# modules that transformers' model has no place for: what they are in timm
FOREIGN = {
    "head.":      "a classifier",
    "fc_norm.":   "a norm after the pooling",
    "attn_pool.": "pooling by attention (global_pool='map')",
    "norm_pre.":  "a norm before the blocks",
    "pos_embed":  "position embeddings, beside the rotary ones",
}  # fmt: skip

KEEP = (
    "transformers has the backbone of DINOv3 alone, with a norm of every token. A classifier can be taken out of the "
    "state dict; a model with another of these modules stays in timm."
)

GRID = (3, 5)
"""Rows and columns of the patches whose angles are compared."""

SLACK = 1e-5
"""How far sines and cosines may be off where the same angles are computed in another order, in float32."""


def translate(
    state_dict: Mapping[str, Tensor], description: Description | None = None
) -> tuple[dict[str, Tensor], str]:
    """Translate timm's state dict to the original's, and say what was done; leave any other one as it is.

    Without a description it is left as it is, too: then it is refused where it is recognised.

    Args:
        description: what a ``config.json`` beside it tells.

    Returns:
        the state dict: periods ``(D/H/4,)`` in float32, and fused biases ``(3D,)`` with masks of that shape, put in.

    Raises:
        CheckpointError: the described model has other rotary positions or blocks than DINOv3, or modules that
            transformers' model has no place for; or a block has the bias of query without that of value.
    """
    if description is None or not is_timms(state_dict):
        return dict(state_dict), ""
    with torch.device("meta"):
        model = build_model(description, nn.Module, {})
    if not has_positions(model):
        return dict(state_dict), ""
    check_described(model, description)
    refuse_foreign(state_dict, FOREIGN, KEEP)
    translated, biases = dict(_rename(state_dict)), _pair_biases(state_dict)
    for block, (query, value) in biases.items():
        translated[block + FUSED_BIAS] = torch.cat((query, torch.zeros_like(query), value))  # (3D,)
        translated[block + MASK] = build_bias_mask(3 * len(query)).to(query)
    periods = compute_rotary(model, description).periods
    translated[PERIODS] = periods.to(next(iter(state_dict.values())).device)
    did = [
        "timm's names brought back; it keeps no mask token: patches cannot be masked",
        f"{len(periods)} periods of rotary positions put in as timm computes them, in float32 and not rounded further",
        "whatever timm pools, the pooled output is the normed CLS token (timm's mean is that of the patches in "
        "last_hidden_state)",
        "the image processor makes a square of the whole image, as the authors do; timm's evaluation may cut the "
        "middle out",
    ]
    if biases:
        did.insert(2, "zeros and a mask stand for the bias of key, which timm does not have")
    return translated, "; ".join(did)


def is_timms(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these may be keys of an ``Eva`` model of timm's, and are none of DINOv3's authors', nor of DINOv2's."""
    has_blocks = "patch_embed.proj.weight" in state_dict and any(key.startswith("blocks.0.") for key in state_dict)
    is_others = PERIODS in state_dict or "storage_tokens" in state_dict or has_any(shapes_of(state_dict), ".ls1.gamma")
    return has_blocks and not is_others


def has_positions(model: nn.Module) -> bool:
    """Whether this is timm's ``Eva`` with rotary positions of any kind."""
    from timm.models.eva import Eva

    return isinstance(model, Eva) and getattr(model, "rope", None) is not None


def check_described(model: nn.Module, description: Description) -> None:
    """Check that timm's model has the blocks and the rotary positions of DINOv3.

    Args:
        model: with rotary positions, see :func:`has_positions`; it may be on the meta device.

    Raises:
        CheckpointError: naming what it has otherwise.
    """
    problems = [*_list_other_blocks(model), *_list_other_positions(model, description)]
    if problems:
        name = description.get("architecture")
        headline = f"config.json names timm's {name}, which computes something else than DINOv3."
        hint = "Keep this model in timm. If config.json is another checkpoint's, move it away."
        raise CheckpointError(headline, problems, hint)


def compute_rotary(model: Any, description: Description) -> Any:
    """Compute, on the CPU, the module of rotary positions of a model on the meta device; that is left alone."""
    rotary = copy.deepcopy(model.rope)
    with torch.device("cpu"):
        compute_buffers(rotary, torch.device("cpu"), description)
    return rotary


def _list_other_blocks(model: Any) -> Iterator[str]:
    from timm.models.eva import EvaAttention, EvaBlock

    if model.cls_token is None:
        yield "cls_token: it has none (class_token=False)"
    for index, block in enumerate(model.blocks):
        kinds: list[type[nn.Module]] = [type(block), type(block.attn)]
        if kinds[0] is not EvaBlock:
            yield f"blocks.{index}: {kinds[0].__name__}, not EvaBlock, which norms before attention and feed-forward"
        elif kinds[1] is not EvaAttention:
            yield f"blocks.{index}.attn: {kinds[1].__name__}, not EvaAttention"
        elif not block.attn.rotate_half:
            yield f"blocks.{index}.attn: it rotates neighbouring channels (rope_rotate_half=False), not the two halves"


def _list_other_positions(model: Any, description: Description) -> Iterator[str]:
    """Compare the angles that timm's model computes with DINOv3's of the same periods, on a small grid."""
    from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3

    if type(model.rope) is not RotaryEmbeddingDinoV3:
        yield f"rope: {type(model.rope).__name__}, not RotaryEmbeddingDinoV3"
        return
    rotary = compute_rotary(model, description)
    with torch.device("cpu"):  # wherever the model is built
        positions = RotaryPositions(4 * len(rotary.periods), 1.0)
        positions.periods = rotary.periods
        expected, found = torch.cat(positions(*GRID), dim=-1), rotary.get_embed(list(GRID))
    if expected.shape != found.shape or not torch.allclose(expected, found, rtol=0, atol=SLACK):
        yield "rope: places or angles of patches are not DINOv3's (rope_rotate_half, rope_grid_offset, _indexing)"


def _pair_biases(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """What the keys of a block's biases begin with, to the biases of query and value, ``(D,)`` each.

    Raises:
        CheckpointError: a block has one of them alone, or they are of different shapes.
    """
    biases = {key: tensor for key, tensor in state_dict.items() if key.endswith((QUERY_BIAS, VALUE_BIAS))}
    pairs = {
        block: (biases.get(block + QUERY_BIAS), biases.get(block + VALUE_BIAS))
        for block in dict.fromkeys(key.removesuffix(QUERY_BIAS).removesuffix(VALUE_BIAS) for key in biases)
    }
    whole = {
        block: (query, value) for block, (query, value) in pairs.items() if query is not None and value is not None
    }
    whole = {block: pair for block, pair in whole.items() if pair[0].shape == pair[1].shape and pair[0].ndim == 1}
    problems = [
        f"{key} {tuple(tensor.shape)}"
        for key, tensor in biases.items()
        if key.removesuffix(QUERY_BIAS).removesuffix(VALUE_BIAS) not in whole
    ]
    if problems:
        raise CheckpointError("Biases of query and value that are no pairs of one width.", problems, WHOLE)
    return whole


def _rename(state_dict: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under the original's name but the biases of query and value; a packed gate is split."""
    packed = is_packed(state_dict)
    is_gated = packed or any(".mlp.fc1_g." in key for key in state_dict)
    for key, tensor in state_dict.items():
        name = RENAMED.get(key, key)
        for theirs, ours in {**PARTS, **(SWIGLU if is_gated else {})}.items():
            name = name.replace(theirs, ours)
        if packed and PACKED in name:
            for half, part in zip(HALVES, tensor.tensor_split(2), strict=True):  # (2H, ...) -> (H, ...) each
                yield name.replace(PACKED, half), part
        elif not key.endswith((QUERY_BIAS, VALUE_BIAS)):
            yield name, tensor
