"""What the README says can be done as it says."""

import re
from pathlib import Path

from conversion.family import families, list_overrides
from conversion.variants import VARIANTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    commands = re.findall(r"^```\n(.*?)```$", README, flags=re.DOTALL | re.MULTILINE)
    assert "pytest\n" in commands
    assert "pytest" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_option_is_described() -> None:
    options = re.findall(r'group\.addoption\(\s*"(--[\w-]+)"', (ROOT / "conftest.py").read_text(encoding="utf-8"))
    assert len(options) > 8
    options += [f"--{name.replace('_', '-')}" for name in list_overrides()]
    assert [option for option in options if f"`{option}" not in README] == []


def test_the_results_name_every_variant() -> None:
    assert [name for name in VARIANTS if f"| {name} |" not in README] == []


def test_every_deviation_has_its_row() -> None:
    rows = README.partition("### Known deviations")[2].partition("## Results")[0]
    entries = {entry.name for family in families() for entry in family.ledger}
    assert [name for name in entries if f"`{name}`" not in rows] == []
