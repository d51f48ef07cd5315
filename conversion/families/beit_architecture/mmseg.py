"""BEiT with UPerNet as mmsegmentation's own code names it, since version 0.23: pure renaming to unilm's names.

Source: ``mmseg/models/backbones/beit.py``, ``mmseg/models/necks/featurepyramid.py`` and
``tools/model_converters/beit2mmseg.py`` in open-mmlab/mmsegmentation. The heads have the same names in both.
"""

from collections.abc import Mapping

from torch import Tensor

# mmsegmentation's                   unilm's
BLOCKS = "backbone.layers."
BLOCK_MODULES = {
    "ln1.":                          "norm1.",
    "ln2.":                          "norm2.",
    "ffn.layers.0.0.":               "mlp.fc1.",
    "ffn.layers.1.":                 "mlp.fc2.",
}  # fmt: skip
MODULES = {
    "backbone.patch_embed.projection.": "backbone.patch_embed.proj.",
    "neck.upsample_4x.":             "backbone.fpn1.",
    "neck.upsample_2x.":             "backbone.fpn2.",
}  # fmt: skip


def translate(state_dict: Mapping[str, Tensor], _description: object = None) -> tuple[dict[str, Tensor], str]:
    """Rename a state dict of mmsegmentation's own to unilm's names, and say so; leave any other one as it is.

    No tensor is changed.
    """
    if not is_mmsegs(state_dict):
        return dict(state_dict), ""
    did = "mmsegmentation's own names brought to those of BEiT's authors (unilm); restored, they stay theirs"
    return {rename(key): tensor for key, tensor in state_dict.items()}, did


def is_mmsegs(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are mmsegmentation's own names, which the blocks of a BEiT-like backbone tell."""
    return f"{BLOCKS}0.attn.q_bias" in state_dict and f"{BLOCKS}0.ln1.weight" in state_dict


def rename(key: str) -> str:
    """Rename a tensor from mmsegmentation's name to unilm's."""
    if key.startswith(BLOCKS):
        index, _, rest = key.removeprefix(BLOCKS).partition(".")
        return f"backbone.blocks.{index}.{_replace_prefix(rest, BLOCK_MODULES)}"
    return _replace_prefix(key, MODULES)


def _replace_prefix(key: str, names: Mapping[str, str]) -> str:
    theirs = next((name for name in names if key.startswith(name)), "")
    return names[theirs] + key.removeprefix(theirs) if theirs else key
