"""DINOv2: what tensors cannot tell."""

from dataclasses import replace

from conversion.families.settings import (
    BLOCKS_HELP,
    CROP_SETTINGS,
    NORMALISATION_SETTINGS,
    TRANSFORMER_SETTINGS,
    Setting,
    parse_blocks,
    parse_flag,
    parse_offset,
)

SETTINGS = {
    **TRANSFORMER_SETTINGS,
    "global_pool": replace(TRANSFORMER_SETTINGS["global_pool"], field="global_pool", fixed_by=frozenset()),
    "interpolate_offset": Setting(
        "interpolate_offset",
        parse_offset,
        "added to the patch grid where position embeddings are resampled; 0.1 by default in the authors' training",
        neutral=0.0,
        is_needed=False,
    ),
    "interpolate_antialias": Setting(
        "interpolate_antialias",
        parse_flag,
        "whether position embeddings are resampled with antialias; false by default in the authors' training",
        neutral=False,
        is_needed=False,
    ),
    "out_indices": Setting("out_indices", parse_blocks, BLOCKS_HELP, is_needed=False),
    "apply_layernorm": Setting(
        "apply_layernorm", parse_flag, "whether a feature backbone's outputs go through the final norm", is_needed=False
    ),
    "reshape_hidden_states": Setting(
        "reshape_hidden_states", parse_flag, "whether a feature backbone's outputs are maps of patches", is_needed=False
    ),
    **NORMALISATION_SETTINGS,
    **CROP_SETTINGS,
}
"""What tensors cannot tell of a DINOv2 model."""
