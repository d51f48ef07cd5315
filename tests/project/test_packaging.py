"""An installed package has all that it reads: nothing of it lies outside of the package, or is left out of a wheel."""

import fnmatch
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "conversion"
ONLY_OF_A_CHECKOUT = {"conversion/intake/download.py", "conversion/report/baseline.py"}
"""An installed package does without: its checksums lie beside the downloads, and no exactness is on record."""


def test_every_file_that_is_no_module_is_package_data() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(files) > 8
    left_out = [
        str(path.relative_to(ROOT))
        for path in files
        if not any(
            fnmatch.fnmatch(path.name, pattern)
            for pattern in declared.get(".".join(path.parent.relative_to(ROOT).parts), ())
        )
    ]
    assert left_out == []


def test_nothing_outside_of_the_package_is_read() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"parents\[\d\] /", path.read_text(encoding="utf-8"))
    }
    assert readers == ONLY_OF_A_CHECKOUT
