"""The page of kinds of files: every row is held by a test that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8").splitlines() if "`: " in line]
AT_LEAST = 40


def test_there_are_many() -> None:
    assert len(ROWS) >= AT_LEAST


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_held_by_a_test(row: str) -> None:
    held = re.search(r"\| `(\w+\.py)`: (.+?) \|$", row)
    assert held, row
    (file,) = [path for path in (ROOT / "tests").rglob(held[1]) if "benchmarks" not in path.parts]
    name = held[2].strip('"')
    wanted = f"def {name}(" if name.startswith("test_") else name
    assert wanted in file.read_text(encoding="utf-8"), row
