"""What transformers' model always has and an original may lack: the config keeps it, so that it can be restored."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ORIGINAL_LACKS = "original_lacks"
"""Field of a converted model's config: what was filled in because transformers has no switch to leave it out.

The library keeps fields that it does not know, through ``save_pretrained`` too. No output depends on this one.
"""


def write_lacking(spec: Any, whole: Any) -> dict[str, list[str]]:
    """Write the config's field for a spec; none where the original lacks nothing.

    Args:
        whole: the same spec with all that transformers' model always has.
    """
    lacking = [field.name for field in fields(spec) if getattr(spec, field.name) != getattr(whole, field.name)]
    return {ORIGINAL_LACKS: lacking} if lacking else {}


def read_lacking(config: "PretrainedConfig", *names: str) -> dict[str, Any]:
    """Read from a config whether the original has each of these parts."""
    lacking = getattr(config, ORIGINAL_LACKS, None) or ()
    return {name: name not in lacking for name in names}
