"""Folders that transformers has saved again: from another class of the same tensors, or without what lay beside."""

from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.cli.app import main
from conversion.families.base import load_family
from conversion.families.told import ToldStateDict
from conversion.families.variants import VARIANTS
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.synthetic import draw_state_dict
from conversion.state_dicts.folder import LEFT_OUT, PREPROCESSOR
from tests.support.checkpoint_files import same
from tests.support.commands import RESTORING, read_verdicts, run
from tests.support.golden import convert, list_options, read_golden

# recorded model: the class that it is saved from
BACKBONES = {"dinov2_tiny": "Dinov2Backbone", "dinov2_tiny_reg": "Dinov2WithRegistersBackbone"}


def save_again(name: str, saved_class: str, folder: Path, **config: Any) -> None:
    """Save a converted model from a class of transformers, as its users do."""
    import transformers

    conversion.save_artifact(convert(name), folder / "artifact")
    loaded = getattr(transformers, saved_class).from_pretrained(folder / "artifact", **config)
    loaded.save_pretrained(folder / "saved")
    (folder / "saved" / PREPROCESSOR).write_bytes((folder / "artifact" / PREPROCESSOR).read_bytes())
    torch.save(read_golden(name).backbone, folder / "tiny.pth")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_compared_at_what_it_returns(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = BACKBONES[name]
    save_again(name, saved, tmp_path, out_features=["stage1", "stage3"], apply_layernorm=False)
    code, output = run(tmp_path, "--checkpoint", "saved", RESTORING)
    assert code == 0, output
    assert set(read_verdicts(output).values()) == {"consistent with itself"}
    capsys.readouterr()
    status = main(["compare", str(tmp_path / "tiny.pth"), str(tmp_path / "saved"), *list_options(name)])
    output = " ".join(capsys.readouterr().out.split())
    assert (status, "The same model." in output) == (0, True), output
    read = read_checkpoint(tmp_path / "saved").state_dict
    assert same(load_checkpoint(tmp_path / "saved"), read_golden(name).backbone)
    assert isinstance(read, ToldStateDict)
    assert {name: read.told[name].value for name in ("out_indices", "apply_layernorm")} == {
        "out_indices": (0, 2),
        "apply_layernorm": False,
    }


def test_a_backbone_of_other_weights_is_not_the_same_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_again("dinov2_tiny", "Dinov2Backbone", tmp_path)
    other = {
        key: tensor * (1.5 if key == "norm.weight" else 1)
        for key, tensor in read_golden("dinov2_tiny").backbone.items()
    }
    torch.save(other, tmp_path / "tiny.pth")
    options = list_options("dinov2_tiny")
    assert main(["compare", str(tmp_path / "tiny.pth"), str(tmp_path / "saved"), *options]) == 1
    assert "layernorm.weight, from norm.weight: off by up to" in " ".join(capsys.readouterr().out.split())


def test_a_backbone_is_no_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_again("dinov2_tiny", "Dinov2Backbone", tmp_path)
    torch.save(read_golden("dinov2_tiny_1layer").linear_head, tmp_path / "head.pth")
    options = [f"--linear-head={tmp_path / 'head.pth'}", *list_options("dinov2_tiny")]
    assert main(["compare", str(tmp_path / "tiny.pth"), str(tmp_path / "saved"), *options]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "architectures: ['Dinov2Backbone'], expected ['Dinov2ForImageClassification']" in output


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A pretrained model of official shapes, of few blocks, as ``save_pretrained`` leaves it: without its head."""
    from transformers import AutoModel

    golden = read_golden("data2vec_vision_tiny")
    out = conversion.convert(golden.state_dict, **golden.overrides)
    conversion.save_artifact(out, tmp_path / "artifact")
    assert (tmp_path / "artifact" / LEFT_OUT).exists()
    AutoModel.from_pretrained(tmp_path / "artifact").save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / PREPROCESSOR).write_bytes((tmp_path / "artifact" / PREPROCESSOR).read_bytes())
    return tmp_path / "saved"


GONE = "not in the converted model, and gone: lm_head.weight, lm_head.bias (predicts the targets of pretraining"


def test_a_pretraining_head_that_is_gone_is_said_and_the_rest_verified(pretrained: Path) -> None:
    code, output = run(pretrained.parent, "--checkpoint", "saved", RESTORING)
    assert code == 0, output
    assert set(read_verdicts(output).values()) == {"consistent with itself"}
    assert GONE in output
    assert "Traceback" not in output


def test_a_pretraining_head_that_is_gone_is_not_restored_and_it_is_said(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back = pretrained.parent / "back.pth"
    assert main(["restore", str(pretrained), str(back)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{back}\n"
    said = " ".join(captured.err.split())
    assert said.startswith(f"warning: {back}: {GONE}")
    assert said.count("gone") == 1
    expected = {
        key: tensor for key, tensor in read_golden("data2vec_vision_tiny").backbone.items() if "lm_head" not in key
    }
    assert same(torch.load(back)["model"], expected)
    assert any(GONE in step.did for step in read_checkpoint(pretrained).steps)
    with pytest.warns(UserWarning, match="lm_head"):
        conversion.restore_checkpoint(pretrained, pretrained.parent / "again.pth")


def test_a_named_variant_need_not_have_its_pretraining_head(tmp_path: Path) -> None:
    """Named by ``-k``, whose tests asked for every tensor of an official file."""
    family = load_family("data2vec_vision")
    state_dict = draw_state_dict(family, family.spec_of(VARIANTS["data2vec_vision_base"]), "data2vec_vision_base", 0)
    conversion.save_artifact(conversion.convert(state_dict, "data2vec_vision_base"), tmp_path / "artifact")
    for name in (LEFT_OUT, "parity.json", "README.md"):
        (tmp_path / "artifact" / name).unlink()
    options = ("-k", "data2vec_vision_base", "--deselect=tests/parity/test_parity.py")  # which takes long at this size
    code, output = run(tmp_path, "--checkpoint=artifact", RESTORING, *options)
    assert code == 0, output
    assert "1 passed" in output


def test_a_folder_without_a_card_is_sent_to_a_command_that_works(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["convert", str(pretrained)], ["verify", str(pretrained)]):
        assert main(arguments) == 2
        assert f"vision-parity compare ORIGINAL {pretrained}" in capsys.readouterr().err
    golden = read_golden("data2vec_vision_tiny")
    torch.save({"model": golden.backbone}, pretrained.parent / "tiny.pth")
    command = ["compare", str(pretrained.parent / "tiny.pth"), str(pretrained), *list_options(golden.name)]
    assert main(command) == 0, capsys.readouterr()
