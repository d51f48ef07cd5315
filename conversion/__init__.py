"""Convert vision checkpoints to Hugging Face transformers, and prove that nothing was lost."""

from conversion.artifact import check_card, save_artifact
from conversion.checkpoint import load_checkpoint, read_checkpoint, restore_checkpoint
from conversion.errors import ConversionError
from conversion.layout import restore
from conversion.state_dict import Conversion, convert
from conversion.variants import VARIANTS
from conversion.verification import verify_artifact

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
