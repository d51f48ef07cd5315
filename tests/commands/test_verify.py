"""``vision-parity verify``."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact import load
from conversion.artifact.card import MatrixVerdict, hash_file
from conversion.cli.app import main
from conversion.errors import CheckpointError
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import CONFIG
from tests.support.examples import shrink
from tests.support.verified import edit


def test_the_command_says_what_was_compared(made: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *map(str, made.values())]) == 0
    output = capsys.readouterr().out
    said = " ".join(output.split())
    assert "dinov2_custom: as its card says: close with eager in float32, exact with sdpa in float32" in said
    assert ": position-embeddings-offset, image-processor-backend, " in said
    assert said.count("files as they were") == len(made)
    assert "352 capture points, on 11 inputs; 3 files as they were" in said
    assert said.count("taken from the card, cannot be derived: source (whose weights these are") == 1
    assert max(len(line) for line in output.splitlines() if "/" not in line) <= 80


def test_one_that_is_refused_does_not_keep_the_others_from_it(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path), str(made["dinov2_tiny"])]) == 2
    captured = capsys.readouterr()
    assert "has no verification card" in captured.err
    assert "exact with sdpa" in captured.out


def test_another_model_weighs_more_than_no_card(made: dict[str, Path], tmp_path: Path) -> None:
    artifact, empty = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny")), tmp_path / "empty"
    edit(artifact, lambda card: card.update(variant="dinov2_vits14"))
    assert main(["verify", str(empty), str(artifact)]) == 1


def test_the_command_takes_tolerances(made: dict[str, Path]) -> None:
    strict = ["--error-ratio=0.5", "--chance=0", "--floor-max-ulp=0", "--floor-rms-ulp=0"]
    assert main(["verify", *strict, str(made["dinov2_tiny"])]) == 1


@pytest.mark.parametrize("arguments", [[], ["verify"], ["trust", "me"]])
def test_what_is_no_command_is_refused(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize(("tampered", "status"), [(False, 0), (True, 1)])
def test_the_comparison_is_run_again(tampered: bool, status: int, made: dict[str, Path], tmp_path: Path) -> None:
    """It notices what no card does, if somebody writes the card for it."""
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    if tampered:
        config = json.loads((artifact / CONFIG).read_text())
        (artifact / CONFIG).write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
        edit(artifact, lambda card: card["result"].update({CONFIG: hash_file(artifact / CONFIG)}))
    assert main(["verify", "--deep", str(artifact)]) == status


def test_a_model_that_was_named_is_run_again_as_what_its_folder_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A BEiT, which fits Data2Vec-Vision, too."""
    shrink(monkeypatch)
    folder = str(tmp_path / "beit")
    assert main(["convert", "beit_base_patch16_224_pt22k_ft22kto1k", "--weights", "synthetic", "-o", folder]) == 0
    assert main(["verify", folder, "--deep"]) == 0
    capsys.readouterr()
    assert main(["inspect", folder]) == 0
    assert "BeitForImageClassification of transformers" in capsys.readouterr().out


def test_a_comparison_that_fails_or_does_not_run_again_is_said(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    read_back = load._load

    def read_back_wrong(*args: Any, **kwargs: Any) -> Any:
        model = read_back(*args, **kwargs)
        for module in model.modules():
            if hasattr(module, "eps"):
                module.eps = 1.0
        return model

    def refuse(*_: object) -> None:
        raise CheckpointError("the memory does not suffice.", hint="Give it more.")

    monkeypatch.setattr(load, "_load", read_back_wrong)
    assert main(["verify", "--deep", str(artifact)]) == 1
    said = capsys.readouterr().err
    assert said.count("tiny (cpu, float32, ") == 2
    assert "first at block.0.norm1" in said
    monkeypatch.setattr("conversion.cli.verifying.verify_cell", refuse)
    assert main(["verify", "--deep", str(artifact)]) == 1
    assert "the memory does not suffice.\nGive it more." in capsys.readouterr().err


def test_the_bundled_original_stands_for_another_that_was_compared(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    clone = "facebookresearch/dinov2, 1a2b3c4"

    def name_a_clone(card: dict[str, Any]) -> None:
        for cell in card["activations"]:
            cell["original"] = clone

    edit(artifact, name_a_clone)
    assert main(["verify", "--deep", str(artifact)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(f"was compared with {clone}; the bundled original takes its place") == 1


def test_a_stray_file_is_moved_out_of_the_folder(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    (artifact / "teacher.pth").touch()
    assert main(["verify", str(artifact)]) == 1
    said = capsys.readouterr().err
    assert "teacher.pth: not of an artifact" in said
    assert said.endswith("All else is as it was. Move these files out of the folder.\n")
    (artifact / "teacher.pth").rename(tmp_path / "teacher.pth")
    assert main(["verify", str(artifact)]) == 0


def test_a_file_in_place_of_a_folder_is_said(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "teacher.pth").write_bytes(b"PK")
    assert main(["verify", str(tmp_path / "teacher.pth")]) == 2
    assert f"vision-parity inspect {tmp_path / 'teacher.pth'} says what it is." in capsys.readouterr().err
    weights = made["dinov2_tiny"] / "model.safetensors"
    assert main(["verify", str(weights)]) == 2
    assert f"Give its folder: {weights.parent}" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_run_again_here_is_not_called_another_model(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other folder is run again all the same."""
    there, here = (Path(shutil.copytree(made["dinov2_tiny"], tmp_path / name)) for name in ("there", "here"))
    edit(there, lambda card: [cell.update(device="cuda") for cell in card["activations"]])
    assert main(["verify", str(there)]) == 0
    assert main(["verify", "--deep", str(there), str(here)]) == 2
    captured = capsys.readouterr()
    assert "there: This device, dtype or attention cannot be used here." in captured.err
    assert f"{here}: cpu, float32, sdpa: exact again" in captured.out


def test_a_verdict_that_is_another_one_now_is_said(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MatrixVerdict, "verdict", Verdict.CLOSE)
    assert main(["verify", "--deep", str(made["dinov2_tiny"])]) == 0
    assert "cpu, float32, sdpa: close here, exact by its card" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["main", "", "5"])
def test_a_version_of_any_form_is_read(version: str, made: dict[str, Path], tmp_path: Path) -> None:
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    edit(artifact, lambda card: card["versions"].update(transformers=version))
    assert main(["verify", str(artifact)]) in (0, 1)


def test_a_folder_that_cannot_be_listed_is_an_error(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("conversion.artifact.verify.list_foreign", refuse)
    assert main(["verify", str(made["dinov2_tiny"])]) == 1
    assert "cannot be read: [Errno 13] Permission denied" in capsys.readouterr().err
