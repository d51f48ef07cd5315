"""Convert vision checkpoints to Hugging Face transformers, and prove that nothing was lost."""

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
