"""The artifact in bad company: other people's files, other writers, full disks, kills."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from conversion.artifact import stage
from conversion.artifact.load import load_model
from conversion.artifact.stage import save_artifact, stage_artifact
from conversion.artifact.weights import UNVERIFIED_WEIGHTS
from conversion.errors import ArtifactError
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from tests.support.forked import running
from tests.support.golden import convert


def a_file(target: Path) -> None:
    target.write_text("mine")


def a_directory_of_mine(target: Path) -> None:
    target.mkdir()
    (target / "notes.txt").write_text("mine")


def a_model_of_mine(target: Path) -> None:
    target.mkdir()
    (target / CONFIG).write_text("{}")


def an_artifact_with_a_file_of_mine(target: Path) -> None:
    save_artifact(convert(), target)
    (target / "notes.txt").write_text("mine")


def a_card_of_something_else(target: Path) -> None:
    target.mkdir()
    (target / PARITY_CARD).write_text('["schema"]')


def a_link(target: Path) -> None:
    (target.parent / "elsewhere").mkdir()
    target.symlink_to(target.parent / "elsewhere")


@pytest.mark.parametrize(
    "prepare",
    [a_file, a_directory_of_mine, a_model_of_mine, an_artifact_with_a_file_of_mine, a_card_of_something_else, a_link],
)
def test_what_is_not_an_artifact_is_left_alone(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    prepare(tmp_path / "tiny")
    before = sorted((path, path.read_bytes() if path.is_file() else b"") for path in tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match=r"tiny: .*not overwritten"):
        save_artifact(convert(), tmp_path / "tiny")
    assert sorted((path, path.read_bytes() if path.is_file() else b"") for path in tmp_path.rglob("*")) == before


def test_an_artifact_whose_card_tells_nothing_of_settings_is_replaced(tmp_path: Path) -> None:
    card = json.loads((save_artifact(convert(), tmp_path / "tiny") / PARITY_CARD).read_text())
    for told in ([], {"num_attention_heads": 2}, {"num_attention_heads": {}}):
        (tmp_path / "tiny" / PARITY_CARD).write_text(json.dumps(card | {"told": told}))
        with warnings.catch_warnings(action="error"):  # that of another model
            save_artifact(convert(), tmp_path / "tiny")
        assert json.loads((tmp_path / "tiny" / PARITY_CARD).read_text()) == card


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="file/tiny: cannot be written"):
        save_artifact(convert(), tmp_path / "file" / "tiny")


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".tiny.lock"),
        pytest.raises(ArtifactError, match="another process is writing there"),
    ):
        save_artifact(convert(), tmp_path / "tiny")


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: both end a write with an error of the system."""
    code = (
        "import resource, sys\n"
        "from conversion.artifact.stage import save_artifact\n"
        "from conversion.errors import ArtifactError\n"
        "from tests.support.golden import convert\n"
        "out = convert()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    save_artifact(out, sys.argv[1])\n"
        "except ArtifactError as error:\n"
        "    print(error)\n"
    )
    with running(code, str(tmp_path / "tiny")) as (_, written):
        said = written.read()
    assert "tiny: cannot be written" in said
    assert "Check free space" in said
    assert list(tmp_path.iterdir()) == []


KILLED_RUN = """
import sys, time
import conversion.artifact.stage as artifact
import conversion.artifact.weights as weights
from tests.support.golden import convert

def stop(step):
    if step == sys.argv[2]:
        print("stopped", flush=True)
        time.sleep(600)

def then_stop(module, name, step):
    call = getattr(module, name)
    def wrapped(*args, **kwargs):
        result = call(*args, **kwargs)
        stop(step)
        return result
    setattr(module, name, wrapped)

then_stop(weights, "write_safetensors", "weights written")
then_stop(artifact, "check_files", "tensors compared")
then_stop(artifact, "load_model", "loaded back")
then_stop(artifact, "render_model_card", "card rendered")
rename = artifact.Path.rename
def rename_and_stop(path, target):
    if path.name == "model.unverified.safetensors":
        stop("moved")
    if path.name == ".tiny.staging":
        stop("about to move")
    return rename(path, target)
artifact.Path.rename = rename_and_stop
artifact.save_artifact(convert(), sys.argv[1])
"""


STEPS = ("weights written", "tensors compared", "loaded back", "card rendered", "about to move", "moved")


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_leaves_nothing_that_loads_and_the_next_succeeds(step: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    target = tmp_path / "tiny"
    with running(KILLED_RUN, str(target), step) as (process, written):
        assert written.readline() == "stopped\n"
        process.kill()
    assert target.exists() == (step == "moved")
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert [(path / UNVERIFIED_WEIGHTS).exists() for path in left] == [True]
    for path in left:
        with pytest.raises((OSError, ValueError)):
            AutoModel.from_pretrained(path, local_files_only=True)
    save_artifact(convert(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    load_model(target)


@pytest.mark.parametrize("which", [".tiny.staging", "model.unverified.safetensors"])
def test_a_failed_rename_puts_the_previous_artifact_back(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artifact(convert(), tmp_path / "tiny")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == which:
            raise OSError("no more of that")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ArtifactError, match="no more of that"):
        save_artifact(convert("dinov2_tiny_reg"), tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert type(load_model(tmp_path / "tiny")).__name__ == "Dinov2Model"


def test_a_run_killed_between_two_renames_gives_the_previous_artifact_back(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / ".tiny.previous")
    with stage_artifact(convert("dinov2_tiny_reg"), tmp_path / "tiny"):
        assert type(load_model(tmp_path / "tiny")).__name__ == "Dinov2Model"


def test_all_of_an_artifact_is_on_the_disk_before_the_previous_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cards, the folder with the weights' last name, and the folder that it was renamed in."""
    save_artifact(convert(), tmp_path / "tiny")
    done: list[str] = []
    monkeypatch.setattr(stage, "flush", lambda path: done.append(path.name))
    monkeypatch.setattr(stage.shutil, "rmtree", lambda path, **_: done.append(f"removed {path.name}"))
    save_artifact(convert(), tmp_path / "tiny")
    written = ["README.md", "parity.json", "tiny", tmp_path.name]
    begin = done.index(written[0])
    assert done[begin : begin + 5] == [*written, "removed .tiny.previous"]
