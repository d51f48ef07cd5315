"""The project's pytest, run as its users do: in a process of its own, from a directory of theirs.

An import of torch, torchvision and transformers takes seven seconds, most of what is tried here less than one. So the
process is forked off one that has imported these libraries, where the system can do that.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conversion.artifact.files import FILES
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, PARITY_CARD
from tests.support.forked import run_pytest
from tests.support.golden import list_options

ROOT = Path(__file__).parents[2]
RESTORING = str(ROOT / "tests" / "parity" / "test_restore.py")
"""The file of the test of the way back, to be run beside the main job's."""

TINY = ("--checkpoint", "tiny.pth", *list_options("dinov2_tiny"))

ROW = re.compile(
    r"^\w+ +(?:cpu|cuda\S*) +\w+ +(?P<attention>\w+) +(?P<verdict>[\w ]+?) +[\d.]+ x +\d+ s(?: +\S+ \S+)?$",
    re.MULTILINE,
)

HAS_WORKERS = pytest.mark.xdist_group("workers")
"""Of tests that start two workers, each as large as one of this run's own: never two such tests at a time."""

ALSO_BY_WORKERS = pytest.mark.parametrize(
    "workers", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="workers", marks=HAS_WORKERS)]
)

SHRINKING = """
import pytest
from tests.support.examples import shrink
shrink(pytest.MonkeyPatch())
"""
"""Make the official variants small."""

# in the model that is loaded back, since a wrong value in its config is refused before anything is compared
WRONG_EPS = """
import conversion.artifact.load as load
read_back = load._load
def read_back_wrong(*args, **kwargs):
    model = read_back(*args, **kwargs)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    return model
load._load = read_back_wrong
"""

FAILING = WRONG_EPS.replace("1e-5", "1.0")
"""So far off that the original is not asked how it rounds otherwise, 32 times an input."""

NO_CONVERSION = """
import conversion
def convert(*args, **kwargs):
    raise conversion.ConversionError("no way to convert this")
conversion.convert = convert
"""
"""Nothing can be converted."""

NO_WAY_BACK = """
import conversion.suite.subject as subject
subject.Subject.restore = lambda self: {}
"""
"""Nothing is restored."""


def run(here: Path, *options: str, plugin: str = "", **variables: str) -> tuple[int, str]:
    """Run pytest on the project from a user's directory, with the source of a plugin to disturb it.

    Args:
        variables: of the environment.

    Returns:
        its exit status, and all that it wrote.
    """
    (here / "disturb.py").write_text(plugin)
    return run_pytest(list_arguments(options), here, build_environment(here, ROOT) | variables)


def start(here: Path, *options: str, plugin: str = "") -> "subprocess.Popen[str]":
    """Start pytest as :func:`run` does, in a process that imports all that it needs."""
    (here / "disturb.py").write_text(plugin)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *list_arguments(options)],
        cwd=here,
        env=build_environment(here, ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def list_arguments(options: tuple[str, ...]) -> list[str]:
    """Of pytest: the main job of this project, whatever directory it is started from."""
    return [
        "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "disturb", "-p", "no:cacheprovider",
        "-p", "no:benchmark", "-q", str(ROOT / "tests" / "parity" / "test_parity.py"), *options,
    ]  # fmt: skip


def build_environment(*path: Path) -> dict[str, str]:
    """Of the process: that of this one, without what pytest and CI put there, with places to import from."""
    environment = {
        key: value for key, value in os.environ.items() if key != "CI" and not re.search("PYTEST|^GITHUB_", key)
    }
    return environment | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}


def read_verdicts(output: str) -> dict[str, str]:
    """From the closing table: attention to verdict."""
    return {row["attention"]: row["verdict"] for row in ROW.finditer(output)}


def assert_refused(here: Path, options: tuple[str, ...], message: str) -> None:
    """The command line itself is refused, in one clear error."""
    code, output = run(here, *options)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert message in output
    assert "Traceback" not in output


def left_over(here: Path) -> list[str]:
    return sorted(path.name for path in (here / "artifacts").iterdir()) if (here / "artifacts").exists() else []


def check_artifact(folder: Path, options: tuple[str, ...], says: str, dtype: torch.dtype = torch.float32) -> None:
    """Run the command, and hold what it leaves against what was to be verified."""
    code, output = run(folder, *options, "--save-artifacts", "--attention", "sdpa")
    assert code == 0, output
    (name,) = left_over(folder)
    artifact = folder / "artifacts" / name
    assert {path.name for path in artifact.iterdir()} - {LEFT_OUT} == FILES
    card = json.loads((artifact / PARITY_CARD).read_text())
    steps = "; ".join(
        f"{step['name']}: {step['did']}" for step in card["source"]["checkpoints"]["checkpoint"]["intake"]
    )
    assert re.search(says, steps), steps
    assert card["verdict"] in ("exact", "close")
    assert str(folder) not in (artifact / PARITY_CARD).read_text()
    assert json.loads((artifact / CONFIG).read_text())["dtype"] == str(dtype).removeprefix("torch.")
    for step in card["source"]["checkpoints"]["checkpoint"]["intake"]:
        assert step["did"] in (artifact / "README.md").read_text()
