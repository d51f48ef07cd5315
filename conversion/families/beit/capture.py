"""BEiT: where original and transformers model carry the same values."""

from functools import partial

from conversion.families.beit_architecture import capture as architecture
from conversion.families.beit_architecture.capture import EXACT, FLAT, NESTED
from conversion.families.target import transformers_major

__all__ = ["EXACT", "list_stages"]

list_stages = partial(architecture.list_stages, modules=NESTED if transformers_major() < 5 else FLAT)
"""List every capture point; transformers 5 names the modules in memory otherwise than 4, and than on disk."""
