"""Where a page is to be written: whether it can be, before anything is verified."""

import tempfile
from pathlib import Path

from conversion.errors import ArtifactError

HEAD = "<!doctype html>\n<!-- parity report -->\n"
"""What a page begins with, by which it is known."""


def check_place(path: Path, name: str) -> None:
    """Check that a page can be written there, before there is one, and that nothing else is replaced by it.

    Args:
        name: of the option that gives the path.

    Raises:
        ArtifactError: it is no name of a page, something else lies there, or nothing can be written there.
    """
    problem = ""
    try:
        if path.suffix.lower() not in (".html", ".htm"):
            problem = "its name must end in .html"
        elif path.exists() and not (path.is_file() and path.read_bytes()[: len(HEAD)] == HEAD.encode()):
            problem = "something else lies there"
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        problem = f"nothing can be written there: {error}"
    if problem:
        raise ArtifactError(f"{name} {path}: {problem}.")
