"""Imports go one way, none comes from a test file, and a family is a folder or a module."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conversion.families.variants import VARIANTS
from conversion.suite.selection import list_twins
from conversion.suite.settings import Request

PACKAGE = Path(__file__).parents[2] / "conversion"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parents[1].rglob("*.py"))
TEST_FILES = {path.stem for path in TESTS if path.name.startswith("test_")}
FAMILIES = {variant.family for variant in VARIANTS.values()}

# a package may import those before it, and itself
FLOORS = [
    "pytest_plugin",
    "errors",
    "patching",
    "mapping",
    "parity",
    "families",
    "state_dicts",
    "intake",
    "exports",
    "artifact",
    "report",
    "suite",
    "cli",
    "__main__",
]
ROOMS = {
    "__init__.py",
    "capture.py",
    "config.py",
    "deviations.py",
    "family.py",
    "key_map.py",
    "original.py",
    "settings.py",
}


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_packages(module: Path) -> set[str]:
    """The project's own rooms that a module imports, those for types only included."""
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "conversion" else [f"conversion.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("conversion.")}
        assert not any(name.split(".")[0] in ("tests", "conftest") for name in names), module
    return rooms


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(module: Path) -> None:
    if module == PACKAGE / "__init__.py":
        return
    allowed = set(FLOORS[: FLOORS.index(package_of(module)) + 1])
    assert imported_packages(module) <= allowed


def test_every_room_has_its_floor_and_families_have_the_same_rooms() -> None:
    assert {package_of(module) for module in MODULES} - {"__init__"} == set(FLOORS)
    for family in FAMILIES - {path.stem for path in (PACKAGE / "families").glob("*.py")}:
        assert {path.name for path in (PACKAGE / "families" / family).glob("*.py")} >= ROOMS


def test_parity_knows_no_family() -> None:
    for module in (PACKAGE / "parity").glob("*.py"):
        assert imported_packages(module) <= {"parity", "errors", "mapping"}


BUILT_ON = {"depth_architecture": {"dinov2"}}
"""An architecture to the families that it is made of."""


def test_no_module_outside_a_family_imports_one() -> None:
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        own = {module.parent.name, module.stem} & FAMILIES | BUILT_ON.get(module.parent.name, set())
        others = [family for family in FAMILIES - own if re.search(rf"\bconversion\.families\.{family}\b", text)]
        assert not others, module


def imported_test_files(module: Path) -> set[str]:
    """The test files that a module imports, or imports something from, wherever in it that is done."""
    names = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {part for name in names for part in name.split(".")} & TEST_FILES


def test_nothing_is_imported_from_a_test_file() -> None:
    """What several need lies in ``tests/support``, or beside them under a name that pytest does not collect."""
    assert {module: names for module in TESTS if (names := imported_test_files(module))} == {}


def test_collecting_imports_nothing_that_takes_longer_than_torch() -> None:
    script = "import sys, pytest; pytest.main(['--collect-only', '-qq', '-p', 'no:cacheprovider']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    collected, modules = done.stdout.rsplit("\n", 2)[:2]
    verified = len(VARIANTS) - len(list_twins(Request()))
    assert f"tests/parity/test_parity.py: {2 * verified}" in collected
    assert not {"transformers", "timm", "torchvision", "torch._dynamo"} & set(modules.split())


def test_files_are_short_enough_to_read() -> None:
    for module in [*MODULES, *TESTS]:
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 300, module
