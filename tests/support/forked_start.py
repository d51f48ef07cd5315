"""Work that the fork server does once for all processes that are forked off it; it imports this module."""

from contextlib import suppress

with suppress(ImportError):  # transformers 4 renames nothing on loading
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("dinov2")  # which compiles a thousand patterns, of all models
