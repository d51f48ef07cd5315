"""Facts that a file beside a checkpoint and its tensors both tell: then the file is another model's where they differ.

Sources: ``dinov2/configs/ssl_default_config.yaml``, ``dinov2/models/vision_transformer.py`` in facebookresearch/dinov2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conversion.families.shapes import has_any
from conversion.mapping.key_map import StateDict, shapes_of


@dataclass(frozen=True)
class Fact:
    """What a file says of a model that its tensors say as well.

    Attributes:
        key: where the file says it, in words.
    """

    value: int | str
    key: str


# of a training's config: its key to what measure() calls it; each is true, or false, 0 or null
SWITCHES = {"qkv_bias": "qkv_bias", "proj_bias": "proj_bias", "ffn_bias": "ffn_bias", "layerscale": "layer_scale"}

FEED_FORWARDS = {
    "mlp": "plain",
    **dict.fromkeys(("swiglu", "swiglufused", "swiglu32", "swiglu64", "swiglu128"), "gated"),
}
"""``ffn_layer`` of a training's config."""


def measure(state_dict: StateDict, num_chunks: int = 0) -> dict[str, int | str]:
    """Widths, depth and the like of a vision transformer in the original's layout, of those that its keys show.

    Args:
        num_chunks: of its blocks, as its keys had them. A model without may be one whose blocks were counted through.
    """
    shapes, facts = shapes_of(state_dict), dict[str, int | str]()
    if "cls_token" in shapes:
        facts["embed_dim"] = shapes["cls_token"][-1]
        facts["num_register_tokens"] = shapes["register_tokens"][1] if "register_tokens" in shapes else 0
        facts["num_storage_tokens"] = shapes["storage_tokens"][1] if "storage_tokens" in shapes else 0
    if "patch_embed.proj.weight" in shapes:
        facts["patch_size"] = shapes["patch_embed.proj.weight"][-1]
    if blocks := {key.split(".")[1] for key in shapes if key.startswith("blocks.")}:
        facts["depth"] = len(blocks)
        facts |= {
            "qkv_bias": has_any(shapes, ".attn.qkv.bias", ".attn.q_bias"),
            "proj_bias": has_any(shapes, ".attn.proj.bias"),
            "ffn_bias": has_any(shapes, *(f".mlp.{layer}.bias" for layer in ("fc1", "fc2", "w12", "w1", "w3"))),
            "layer_scale": has_any(shapes, ".ls1.gamma", ".ls2.gamma", ".gamma_1", ".gamma_2"),
            "feed_forward": "gated" if has_any(shapes, ".mlp.w12.weight", ".mlp.w1.weight") else "plain",
        }
    return facts | ({"num_chunks": num_chunks} if num_chunks else {})


def read_student(student: Mapping[str, Any], depth: int) -> dict[str, Fact]:
    """What the student's section of a DINOv2 training's configuration says of parts that a model has or has not.

    What is absent, or not resolved (``"${...}"``), says nothing. How large images are (``crops``) says nothing of
    position embeddings: a training may go on with other images.

    Args:
        depth: blocks of its architecture.
    """
    facts = {}
    for key, name in SWITCHES.items():
        is_on = _read_switch(student[key]) if key in student else None
        if is_on is not None:
            value = "null" if student[key] is None else student[key]
            said = "" if value is is_on else f" ({value})"
            facts[name] = Fact(is_on, f"student.{key}{said}")
    layer = student.get("ffn_layer")
    if isinstance(layer, str) and layer in FEED_FORWARDS:
        facts["feed_forward"] = Fact(FEED_FORWARDS[layer], f"student.ffn_layer ({layer}), feed-forward")
    chunks = student.get("block_chunks")
    if type(chunks) is int and chunks <= depth:
        count = len(range(0, depth, depth // chunks)) if chunks > 0 else 0
        facts["num_chunks"] = Fact(count, f"student.block_chunks ({chunks}), chunks of {depth} blocks")
    return facts


def _read_switch(value: object) -> bool | None:
    """Read a switch: 0, null and false are off, another number, such as that of layer scales, is on; else None."""
    if value is None or isinstance(value, int | float):
        return bool(value)
    try:
        return bool(float(str(value)))  # YAML has 1e-5 as text
    except ValueError:
        return None
