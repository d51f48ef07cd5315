"""DINOv2 with a depth head: what tensors cannot tell."""

from conversion.families.settings import (
    BLOCKS_HELP,
    NORMALISATION_SETTINGS,
    TRANSFORMER_SETTINGS,
    Setting,
    parse_count,
    parse_integers,
)

SETTINGS = {
    **{name: setting for name, setting in TRANSFORMER_SETTINGS.items() if name != "global_pool"},
    "out_indices": Setting("out_indices", parse_integers, BLOCKS_HELP, neutral=()),
    "max_depth": Setting(
        "max_depth", parse_count, "largest depth in metres of a depth head, as 20; 0 if it is relative", neutral=0
    ),
    **NORMALISATION_SETTINGS,
}
"""What tensors cannot tell of a model with this architecture."""
