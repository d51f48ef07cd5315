"""What a host would compute with. Another host runs this file before anything of its own, so it imports no project."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

CODE = ("conftest.py", "pyproject.toml", "conversion/**/*.py", "conversion/**/*.jinja", "tests/**/*.py")


def take_fingerprint(root: str, libraries: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Name to version, and file to hash, of the checkout at ``root``."""
    versions = {"python": platform.python_version()}
    for name in libraries:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    paths = sorted({path for pattern in CODE for path in Path(root).glob(pattern)})
    # read as text: a checkout on Windows has other ends of lines
    return versions, {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_text(encoding="utf-8").encode()).hexdigest()
        for path in paths
    }


if __name__ == "__channelexec__":
    execnet: Any = globals()["channel"]  # which execnet puts there
    execnet.send(take_fingerprint(*execnet.receive()))
