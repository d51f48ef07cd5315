"""A run divided among hosts: they are alike, and none is lost. A host is another folder here."""

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import execnet
import pytest

from conversion.errors import DeviceError
from conversion.suite.hosts import check_host, find_place
from tests.support.commands import HAS_WORKERS, ROOT, TINY, build_environment, run
from tests.support.forked import run_pytest


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A checkout."""
    for folder in ("conversion", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def gateway(there: Path) -> Iterator[Any]:
    group = execnet.Group()
    yield group.makegateway(f"popen//chdir={there}")
    group.terminate(timeout=1)


def test_a_host_that_is_alike_is_taken(gateway: Any) -> None:
    check_host(gateway, ROOT, ".")


def install_other_torch(folder: Path) -> None:
    info = folder / "torch-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n", encoding="utf-8")


def test_a_host_with_other_code_or_libraries_is_refused(gateway: Any, there: Path) -> None:
    install_other_torch(there)
    changed = there / "conversion" / "families" / "dinov2" / "key_map.py"
    changed.write_text("# changed\n", encoding="utf-8")
    (there / "tests" / "conftest.py").unlink()
    (there / "conversion" / "report" / "matrix.html.jinja").write_text("changed", encoding="utf-8")
    (there / "pyproject.toml").write_text("# changed", encoding="utf-8")
    with pytest.raises(DeviceError, match="is not like this host") as raised:
        check_host(gateway, ROOT, ".")
    key_map, table, project, conftest, torch = raised.value.problems
    assert key_map.startswith("conversion/families/dinov2/key_map.py: there ")
    assert table.startswith("conversion/report/matrix.html.jinja: there ")
    assert project.startswith("pyproject.toml: there ")
    assert conftest.startswith("tests/conftest.py: there none, here ")
    assert torch == f"torch: there 0.1, here {metadata.version('torch')}"


def test_a_run_with_a_host_that_is_not_alike_is_refused(there: Path) -> None:
    install_other_torch(there)
    options = ["-p", "no:cacheprovider", "-k", "dinov2_vits14", f"--tx=popen//chdir={there}"]
    code, output = run_pytest(options, ROOT, build_environment(ROOT))
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"popen//chdir={there}: is not like this host" in output
    assert "- torch: there 0.1" in output
    assert "Traceback" not in output


LOST_BETWEEN_TESTS = """
import os, pathlib, pytest, time
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    worker, collected = os.environ.get("PYTEST_XDIST_WORKER"), pathlib.Path("collected")
    if worker == "gw0":
        collected.touch()
    while worker == "gw1":
        if collected.exists():
            time.sleep(0.5)
            os._exit(1)
"""


@HAS_WORKERS
@pytest.mark.parametrize("workers", [["--tx=popen", "--tx=popen"], ["-n", "2"]])
def test_a_run_that_lost_a_worker_has_not_passed(workers: list[str], here: Path) -> None:
    code, output = run(here, *TINY, *workers, "-v", plugin=LOST_BETWEEN_TESTS)
    assert code == 1
    assert "Lost: gw1 (this host)." in output
    assert "replacing" not in output


def test_a_worker_knows_its_place_on_its_own_host() -> None:
    specs = [execnet.XSpec(text) for text in ("popen", "ssh=a", "popen", "ssh=b", "ssh=a")]
    assert [find_place(spec, specs) for spec in specs] == [(0, 2), (0, 2), (1, 2), (0, 1), (1, 2)]
