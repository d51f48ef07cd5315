"""JSON schemas of what is written for others to read."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.errors import ArtifactError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent


def check_schema(content: Any, name: str, path: str | Path, what: str) -> None:
    """Check that a JSON value follows the schema of this name.

    Args:
        path: where it was read, for the message.
        what: it is, for the message.

    Raises:
        ArtifactError: it is anything else, with every place.
    """
    errors = sorted(load_validator(name).iter_errors(content), key=lambda error: error.json_path)
    if errors:
        raise ArtifactError(f"{path}: is no {what}.", [f"{e.json_path}: {e.message[:200]}" for e in errors])


@cache
def load_validator(name: str) -> "Draft202012Validator":
    """What knows a schema."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")))
