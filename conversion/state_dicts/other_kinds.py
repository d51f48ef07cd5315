"""Kinds of checkpoints that are not converted, though their keys look like those of a family that is."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from conversion.errors import CheckpointError
from conversion.families.base import families
from conversion.families.timm_code import DESCRIBE_ROTARY
from conversion.mapping.key_map import Shapes

MERGE = (
    "Merge it into its base model where it was trained: merged = model.merge_and_unload(); "
    'torch.save(merged.state_dict(), "merged.pth").'
)
MERGE_IN_TRANSFORMERS = (
    "Merge it into its base model where it was trained, and give the folder: "
    'model.merge_and_unload().save_pretrained("merged").'
)

UNQUANTIZED = (
    "Its weights are numbers only together with their scales. Give the checkpoint that was quantized; or dequantize "
    "the model where it was made, and save its state dict."
)

IN_TRANSFORMERS = "encoder.layer."
"""What the key of a block's tensor has in it in transformers' layouts, and in no original's."""


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Attributes:
        name: what it is, with its article.
        signs: shell-style patterns of keys; no model of a family has any of them, and each is enough.
        hint: the way out; empty where there is none.
        hint_in_transformers: the way out of a model in transformers' layout, where it is another one.
        together: patterns that are a sign where every one of them is there.
    """

    name: str
    signs: tuple[str, ...] = ()
    hint: str = ""
    hint_in_transformers: str = ""
    together: tuple[str, ...] = ()


# names of PEFT's layers: lora, of LoRA and DoRA; hada and lokr, of LoHa and LoKr; ia3; base_layer, which each wraps
ADAPTERS = Kind(
    "a model with adapters of PEFT (LoRA and its like) that are not merged",
    ("*.lora_[AB].*", "*.lora_[AB]", "*.lora_magnitude_vector*", "*.hada_w*", "*.lokr_w*", "*.ia3_l*",
     "*.base_layer.*"),
    MERGE,
    MERGE_IN_TRANSFORMERS,
)  # fmt: skip
OTHER_KINDS = (
    ADAPTERS,
    # bitsandbytes, in 8 and 4 bits; GPTQ and AWQ; compressed-tensors and FP8
    Kind(
        "a quantized checkpoint",
        ("*.SCB", "*.absmax", "*.quant_map", "*.quant_state.*", "*.qweight", "*.qzeros", "*.weight_scale",
         "*.weight_scale_inv", "*.weight_packed"),
        UNQUANTIZED,
    ),
    Kind("a checkpoint of DINOv3's ConvNeXt", ("stages.*.dwconv.weight", "*.stages.*.dwconv.weight")),
    # by timm, and by its authors
    Kind(
        "a checkpoint with norms of query and key, as Sapiens2 has them",
        together=("reg_token", "*.attn.q_norm.weight", "*.attn.q_proj.weight"),
    ),
    Kind("a checkpoint of Sapiens2", together=("*.attn.wq.weight", "*.ffn.w12.weight")),
    # rotary positions have no tensors; no key alone tells these from a BEiT's
    Kind(
        "a state dict of timm's with rotary positions, of which nothing tells the kind",
        hint=DESCRIBE_ROTARY,
        together=("cls_token", "reg_token", "blocks.*.gamma_1"),
    ),
    Kind(
        "an EVA-02 checkpoint",
        ("*.mlp.ffn_ln.weight", "*.attn.inner_attn_ln.weight"),
        together=("*.attn.q_proj.weight", "*.mlp.fc1_g.weight"),
    ),
    Kind("a checkpoint of MAE's pretraining", ("decoder_pos_embed", "*.decoder_pos_embed")),
    Kind("a CLIP checkpoint", ("visual.transformer.resblocks.*", "vision_model.embeddings.class_embedding")),
    Kind("a SAM checkpoint", ("image_encoder.*.attn.rel_pos_h",)),
)  # fmt: skip


def refuse_other_kinds(shapes: Shapes, kinds: Iterable[Kind] = OTHER_KINDS) -> None:
    """Refuse a state dict that is known to be of another kind than any family's.

    Raises:
        CheckpointError: naming what it is, and the keys that say so.
    """
    for kind in kinds:
        found = _find_matching(shapes, kind.signs)
        if kind.together and all(_find_matching(shapes, (sign,)) for sign in kind.together):
            found += _find_matching(shapes, kind.together)
        if found:
            problems = [f"{key} {tuple(shapes[key])}" for key in found]
            is_transformers = any(IN_TRANSFORMERS in key for key in found)
            hint = (is_transformers and kind.hint_in_transformers) or kind.hint or list_converted()
            raise CheckpointError(f"{kind.name}, which is not converted.", problems, hint)


def _find_matching(shapes: Shapes, signs: Iterable[str]) -> list[str]:
    return [key for key in shapes if any(fnmatch.fnmatchcase(key, sign) for sign in signs)]


def list_converted() -> str:
    """Say what is converted."""
    return f"What is converted: models of {_join(family.name for family in families())}."


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
