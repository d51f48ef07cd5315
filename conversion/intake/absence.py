"""What to say of a path at which there is nothing to read."""

import glob
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from conversion.errors import CheckpointError, concerning
from conversion.families.variants import VARIANTS


def check_there(path: Path) -> None:
    """Refuse a path at which there is nothing, where it is no pattern.

    Raises:
        CheckpointError: there is nothing, or it cannot be looked at.
    """
    if path.exists() or glob.has_magic(str(path)):
        return
    with concerning(path):
        try:
            path.stat()
        except (OSError, ValueError) as error:
            raise explain_absence(path, error) from error


def check_any_there(*paths: Path, kinds: Sequence[str] = ("folder",)) -> None:
    """Refuse paths, if there is nothing at any of them.

    Args:
        kinds: what might be there, in words.

    Raises:
        CheckpointError: with all of them.
    """
    if not any(path.exists() for path in paths):
        names = ", ".join(map(str, paths))
        if len(paths) == 1:
            raise CheckpointError(f"{names}: there is no such {' or '.join(kinds)}.", hint="Check its path.")
        several = " or ".join(f"{kind}s" for kind in kinds)
        raise CheckpointError(f"{names}: there are no such {several}.", hint="Check their paths.")


def explain_absence(path: Path, error: Exception) -> CheckpointError:
    """What to say of a path that cannot be opened."""
    if isinstance(error, PermissionError):
        return CheckpointError("you have no permission to read it.", [str(error)], _permit(path))
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():
        nearest = sorted(other.name for other in path.parent.glob(f"*{path.suffix}") if other.is_file())[:5]
        hint = f"Its folder holds {', '.join(nearest)}." if nearest else "Check its path."
        if str(path) in VARIANTS:
            hint = "An official variant is not given by its name here: convert it, or give its file."
        return CheckpointError("there is no such file.", hint=hint)
    if isinstance(error, FileNotFoundError):
        return CheckpointError("there is no such file or folder.", hint=_suggest_place(path))
    if isinstance(error, IsADirectoryError):
        return CheckpointError("is a folder.", hint=f"Give that folder alone: {path}")
    return CheckpointError("cannot be looked at.", [str(error)], hint="Check its path.")


def _suggest_place(path: Path) -> str:
    """Where the file of a name may be that is no path."""
    if str(path).startswith(("http:/", "https:/")):
        return "Download it, and give the file."
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        return f"Check its path. Of a repository on the Hub, give FOLDER: hf download {path} --local-dir FOLDER"
    return "Check its path."


def _permit(path: Path) -> str:
    """The command that lets everybody read a file: of its folders, the outermost that is closed comes first."""
    closed = next((folder for folder in reversed(path.absolute().parents) if not os.access(folder, os.X_OK)), None)
    mode, place = ("a+x", closed) if closed else ("a+rX", path)
    return f"Have its owner run: chmod {mode} {shlex.quote(str(place))}"
