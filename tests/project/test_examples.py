"""Every example of README and docs is run, with small files under the names that it uses."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from conversion.artifact.files import FILES
from conversion.cli.app import main
from conversion.state_dicts.folder import CONFIG
from conversion.suite import subject
from tests.support.clones import write_clone
from tests.support.commands import run
from tests.support.examples import (
    PAGES,
    ROOT,
    Example,
    list_blocks,
    list_commands,
    shrink,
    write_files,
    write_training_config,
)

BY_OTHER_TESTS = ("adding-a-family.md", "ci.md")  # one of its own; that of the workflows, which run its commands
OWN = [page for page in PAGES if page.name not in BY_OTHER_TESTS]
EXPORTS = "exports"  # whose Python loads what its command has made
COMMANDS = [page for page in OWN if page.stem != EXPORTS and list_commands(page, "vision-parity")]
PYTHON = [page for page in OWN if list_blocks(page, "python")]
PYTEST = {
    f"{page.stem}: {' '.join(example.arguments)}": example
    for page in OWN
    for example in list_commands(page, "pytest")
    if "--tx" not in example.arguments  # which need another host
}

# option to why it is refused here: it was understood, and what it needs is not there
REFUSED = {"cuda": "cuda", "--push-to-hub": "nobody is logged in"}

# what may end otherwise here than on its page: the number of heads has to be told; nothing may have changed
OTHERWISE = {("inspect", "teacher.pth"): 2, ("diff", "fixtures/verdicts.json", "my-model"): 0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with every file that the examples name; converted models, and one that is not the same."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.chdir(folder)
        patch.setattr(subject, "find_checksums", lambda: folder / "checksums.json")
        write_files(folder)
        assert main(["convert", "dinov2_vits14_pretrain.pth", "-o", "artifacts/dinov2_vits14"]) == 0
        assert main(["convert", "dinov2_vitb14_pretrain.pth", "-o", "facebook/dinov2-base"]) == 0
    for name in ("my-model", "theirs", "before", "after", "trained"):
        shutil.copytree(folder / "artifacts/dinov2_vits14", folder / name)
    config = json.loads((folder / "theirs" / CONFIG).read_text())
    (folder / "theirs" / CONFIG).write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be worked in."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    shrink(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(subject, "find_checksums", lambda: tmp_path / "checksums.json")
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for path in tmp_path.glob("dinov2_*_pretrain.pth"):
        shutil.copy(path, cache)
    return tmp_path


def run_example(example: Example, here: Path) -> int:
    """The status of a command; the training's config lies beside its teacher, which is in a folder of its own.

    Each conversion is the first: a model that another example has left would not be replaced.
    """
    before, artifacts = here / "artifacts before", here / "artifacts"
    if example.arguments[0] == "convert":
        artifacts.rename(before)
    (here / "config.yaml").unlink(missing_ok=True)
    if "teacher_checkpoint.pth" in example.arguments:
        write_training_config(here)
    status = main([path for argument in example.arguments for path in expand(argument)])
    if before.exists():
        shutil.rmtree(artifacts, ignore_errors=True)
        before.rename(artifacts)
    return status


def expand(argument: str) -> list[str]:
    """As a shell does; not what is quoted, which is a pattern of rank files."""
    folder, star, _ = argument.partition("/*")
    return sorted(str(path) for path in Path(folder).iterdir()) if star and Path(folder).is_dir() else [argument]


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_end_as_it_says(page: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for example in list_commands(page, "vision-parity"):
        capsys.readouterr()
        status = run_example(example, here)
        written = capsys.readouterr()
        expected = {example.status, OTHERWISE.get(example.arguments, example.status)}
        assert status in expected, f"{example}\n{written.out}\n{written.err}"


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, here: Path) -> None:
    if page.stem == EXPORTS:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("openvino")
        shutil.rmtree("my-model")
        assert [run_example(example, here) for example in list_commands(page, "vision-parity")] == [0]
    for block in list_blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})
    assert {path.name for path in here.glob("artifacts/*/*")} >= FILES


@pytest.mark.parametrize("name", PYTEST)
def test_pytest_takes_the_options_of_a_page(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    """It finds the tests that it would run; that they pass is for themselves to show."""
    arguments = PYTEST[name].arguments
    if "--export" in arguments:
        pytest.importorskip("onnxruntime")
    for family in ("dinov2", "data2vec_vision"):
        write_clone(family, tmp_path / family)
    shutil.copytree(made["dinov2_tiny"], tmp_path / "my-model")
    code, output = run(tmp_path, *arguments, "--collect-only")
    if (option := next((each for each in REFUSED if each in arguments), "")) and not (
        option == "cuda" and torch.cuda.is_available()
    ):
        assert code == pytest.ExitCode.USAGE_ERROR
        assert REFUSED[option] in output
    else:
        assert code == pytest.ExitCode.OK, output


def test_a_command_that_ends_otherwise_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\n$ vision-parity verify a b  # why\nout\n```\n\nExit status: 1.\n\n| x | `pytest -k y` |\n")
    assert list_commands(page, "vision-parity", "pytest") == [
        Example("vision-parity", ("verify", "a", "b"), 1),
        Example("pytest", ("-k", "y"), 0),
    ]
