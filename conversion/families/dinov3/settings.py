"""DINOv3: what tensors cannot tell."""

from dataclasses import replace

from conversion.families.settings import CROP_SETTINGS, NORMALISATION_SETTINGS, TRANSFORMER_SETTINGS

SETTINGS = {
    # nothing in the code tells which of two recipes trained a model
    "layer_norm_eps": replace(TRANSFORMER_SETTINGS["layer_norm_eps"], fixed_by=frozenset()),
    "hidden_act": TRANSFORMER_SETTINGS["hidden_act"],
    # photos and satellite images are normalised otherwise
    **{name: replace(setting, fixed_by=frozenset()) for name, setting in NORMALISATION_SETTINGS.items()},
    **CROP_SETTINGS,
}
"""What tensors cannot tell of a DINOv3 model."""
