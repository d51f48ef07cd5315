"""The target library, as it is installed here."""

from functools import cache
from importlib import metadata

TRANSFORMERS_MAJORS = (4, 5)
"""The major versions of transformers that are written for; their layouts differ for some models."""


@cache
def transformers_major() -> int:
    """Read the major version of the installed transformers."""
    return int(metadata.version("transformers").split(".")[0])
