"""Convert vision checkpoints to Hugging Face transformers, and prove that nothing was lost."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conversion.artifact.checks import check_card
    from conversion.artifact.restore_checkpoint import restore_checkpoint
    from conversion.artifact.stage import save_artifact
    from conversion.artifact.verify import verify_artifact
    from conversion.errors import ConversionError
    from conversion.families.variants import VARIANTS
    from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
    from conversion.state_dicts.convert import Conversion, convert
    from conversion.state_dicts.restore import restore

__all__ = [
    "VARIANTS",
    "Conversion",
    "ConversionError",
    "check_card",
    "convert",
    "load_checkpoint",
    "read_checkpoint",
    "restore",
    "restore_checkpoint",
    "save_artifact",
    "verify_artifact",
]
__version__ = "0.1.0"

# imported when they are asked for, since the command's help need not wait for torch
_MODULES = {
    "VARIANTS": "families.variants",
    "Conversion": "state_dicts.convert",
    "ConversionError": "errors",
    "check_card": "artifact.checks",
    "convert": "state_dicts.convert",
    "load_checkpoint": "intake.checkpoint",
    "read_checkpoint": "intake.checkpoint",
    "restore": "state_dicts.restore",
    "restore_checkpoint": "artifact.restore_checkpoint",
    "save_artifact": "artifact.stage",
    "verify_artifact": "artifact.verify",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
