"""What the process that others are forked off does once for all of them; imported there, beside the libraries."""

from contextlib import suppress

with suppress(ImportError):  # transformers 4 renames nothing on loading
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("dinov2")  # which compiles a thousand patterns, of all models
