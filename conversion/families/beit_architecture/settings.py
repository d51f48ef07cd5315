"""BEiT's architecture: what tensors cannot tell."""

from dataclasses import replace

from conversion.families.settings import (
    BLOCKS_HELP,
    CROP_SETTINGS,
    FAMILY,
    NORMALISATION_SETTINGS,
    TRANSFORMER_SETTINGS,
    Setting,
    parse_choice,
    parse_integers,
)

FAMILIES = ("data2vec_vision", "beit")

SETTINGS = {
    # no output depends on it: transformers has the same model under two names
    FAMILY: Setting(
        "", parse_choice(*FAMILIES), "of a BEiT-like model that fits both: data2vec_vision or beit", is_needed=False
    ),
    **TRANSFORMER_SETTINGS,
    "out_indices": Setting("out_indices", parse_integers, BLOCKS_HELP, neutral=()),
    "pool_scales": Setting(
        "pool_scales", parse_integers, "sides of a segmentation head's pooled maps, as 1,2,3,6", neutral=()
    ),
    # the authors' training takes either normalisation, by an option
    **{name: replace(setting, fixed_by=frozenset()) for name, setting in NORMALISATION_SETTINGS.items()},
    # such a model takes images of one size, which its tensors tell
    **CROP_SETTINGS | {"input_size": replace(CROP_SETTINGS["input_size"], field="")},
}
"""What tensors cannot tell of a model with this architecture."""
