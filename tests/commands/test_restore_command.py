"""``vision-parity restore``: what a converted folder is written back as."""

import shutil
from pathlib import Path

import pytest
import torch

import conversion
from conversion.artifact.restore_checkpoint import describe_restored
from conversion.cli.app import main
from conversion.errors import CheckpointError, ConversionError
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import draw_state_dict
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from tests.support.checkpoint_files import same
from tests.support.golden import list_options, read_golden, write_artifact
from tests.support.listed import list_files


def test_a_folder_goes_back_to_a_file_that_is_converted_to_the_same(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path)
    files = conversion.restore_checkpoint(artifact, tmp_path / "back.pth")
    assert [file.name for file in files] == ["back.pth", "back_linear_head.pth"]
    golden = read_golden("dinov2_tiny_1layer")
    assert same(torch.load(files[0]), golden.backbone)
    assert same(torch.load(files[1]), golden.linear_head)
    with pytest.raises(CheckpointError, match=r"exists already.*\n.*back_linear_head"):
        conversion.restore_checkpoint(artifact, tmp_path / "back.pth")
    with pytest.raises(CheckpointError, match="not what from_pretrained reads"):
        conversion.restore_checkpoint(tmp_path, tmp_path / "again.pth")


# where it is read from and written to: what is said of it
REFUSED = {
    "another format": (
        "artifact",
        "back.safetensors",
        r"the original's own format is torch\.save's\.\nName it \.pth\.$",
    ),
    "a folder that is not there": ("absent", "back.pth", r"absent: there is no such folder\.\nCheck its path\.$"),
    "a place that is not there": ("artifact", "new/back.pth", r"new: there is no such folder\.\nMake it first\.$"),
    "a file": ("artifact/config.json", "back.pth", r"config\.json: is a file, .*\nGive its folder: \S*artifact$"),
    "a file of something else": ("notes.txt", "back.pth", r"is a file, .*\nGive the folder that convert has made\.$"),
    "an empty config": ("empty", "back.pth", r"empty: its config\.json is empty, or no JSON object\.\nCopy the folder"),
    "a foreign card": (
        "foreign",
        "back.pth",
        r"foreign: has no parity\.json of this project\.\nConvert the checkpoint",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_restored_is_said_and_nothing_is_written(what: str, tmp_path: Path) -> None:
    directory, path, says = REFUSED[what]
    foreign = shutil.copytree(write_artifact(tmp_path), tmp_path / "foreign")
    (foreign / PARITY_CARD).write_text('{"schema": "mine"}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / CONFIG).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    before = list_files(tmp_path)
    with pytest.raises(ConversionError, match=says):
        conversion.restore_checkpoint(tmp_path / directory, tmp_path / path)
    assert list_files(tmp_path) == before


def test_what_a_restored_file_has_otherwise_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = read_golden("dinov2_tiny")
    head = {"dino_head.mlp.0.weight": torch.ones(2, 2)}
    teacher = {f"backbone.{key}": tensor for key, tensor in (dict(golden.state_dict) | head).items()}
    torch.save({"teacher": teacher}, tmp_path / "a.pth")
    monkeypatch.chdir(tmp_path)
    options = [*list_options("dinov2_tiny"), "--image-size", "56", "--save-dtype", "bfloat16"]
    assert main(["convert", "a.pth", "-o", "model", *options]) == 0
    assert "the weights are not the file's: " in " ".join(capsys.readouterr().out.split())
    assert main(["restore", "model", "back.pth"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("back.pth What the checkpoint had otherwise position embeddings: resampled for 56 x 56")
    for part in ("unwrap: entry ['teacher']", "strip: 'backbone.'", "cast: ", "left out: dino_head.mlp.0.weight"):
        assert part in said
    config = Path("model", CONFIG)
    config.write_text(config.read_text().replace("1e-06", "1e-05"))
    assert main(["restore", "model", "again.pth"]) == 2
    assert not Path("again.pth").exists()


def test_the_entry_that_a_restored_file_has_again_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"module": read_golden("data2vec_vision_tiny_ft1k").state_dict}, "a.pth")
    assert main(["convert", "a.pth", "-o", "model", *list_options("data2vec_vision_tiny_ft1k")]) == 0
    capsys.readouterr()
    assert main(["restore", "model", "back.pth"]) == 0
    assert "not undone" not in capsys.readouterr().out
    assert list(torch.load("back.pth")) == ["module"]


def test_a_restored_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, save_file = write_artifact(tmp_path), torch.save

    def fill_the_disk(content: object, path: Path) -> None:
        save_file(content, path)
        if "linear_head" in path.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        conversion.restore_checkpoint(artifact, tmp_path / "back.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize(("heads", "said"), [(6, False), (12, True)])
def test_what_was_told_of_a_model_and_is_in_no_file_is_said(heads: int, said: bool, tmp_path: Path) -> None:
    """A ViT-S of twelve heads: its file alone would be taken for the official one, of six."""
    family = load_family("dinov2")
    state_dict = draw_state_dict(family, family.spec_of(VARIANTS["dinov2_vits14"]), "", 0)
    conversion.save_artifact(conversion.convert(state_dict, num_attention_heads=heads), tmp_path / "model")
    line = "told beside it: --num-attention-heads 12; to convert the file, give these again"
    assert describe_restored(tmp_path / "model") == [line] * said


def test_what_a_file_alone_does_not_tell_is_said_and_what_code_tells_is_not(tmp_path: Path) -> None:
    (line,) = [line for line in describe_restored(write_artifact(tmp_path)) if line.startswith("told")]
    told = "--interpolate-antialias false --interpolate-offset 0.1 --num-attention-heads 2"
    assert line == f"told beside it: {told}; to convert the file, give these again"
