"""``vision-parity convert`` and ``inspect``, as their users type them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.card import MatrixVerdict
from conversion.artifact.load import load_model
from conversion.cli.app import main
from conversion.cli.convert import choose_name
from conversion.cli.request import build_request
from conversion.parity.metrics import is_bit_equal
from conversion.report.text import WIDTH
from conversion.suite.axes import choose_variants
from conversion.suite.cells import verify_cell
from conversion.suite.inputs import open_photo
from conversion.suite.subject import Cell, Subject
from tests.support.golden import list_options, read_golden

SETTINGS = list_options("dinov2_tiny")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status, and what was written to either stream."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(autouse=True)
def stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def test_a_checkpoint_becomes_a_model_that_is_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, output, errors = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    assert status == 0, output + errors
    assert re.search(r"exact with sdpa: every bit agrees at \d+ points\s+on 7 inputs", output)
    assert re.search(r"close with eager: rounding alone: [\d.]+ x", output)
    assert "The same model: " in output
    assert "deviation" not in output.lower()
    assert max(map(len, output.splitlines())) <= WIDTH + len(str(here))
    assert json.loads((here / "mine" / "parity.json").read_text())["activations"]
    assert conversion.verify_artifact(here / "mine")["variant"] == "dinov2_custom"


def test_the_end_says_what_the_verdict_rests_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No tensor tells the number of heads: with a wrong one, both models would compute alike."""
    _, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    told = "num_attention_heads 2, interpolate_offset 0.1, interpolate_antialias false"
    said = f"The same model: mine This holds if {told} are right: you said so, and no tensor shows them."
    assert said in " ".join(output.split())
    others = [each.replace("=2", "=4") for each in SETTINGS]
    _, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *others)
    assert "It replaced the same checkpoint's model with num_attention_heads 2." in " ".join(output.split())


def test_a_checkpoint_has_its_own_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = call(capsys, "convert", "tiny.pth", "--weights", "synthetic", *SETTINGS)
    said = "tiny.pth: --weights synthetic is for an official variant; this is a file or folder."
    assert (status, errors) == (2, f"{said}\nLeave --weights synthetic out.\n")


def test_of_an_original_that_overflows_nothing_is_concluded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state_dict = dict(read_golden("dinov2_tiny").state_dict)
    state_dict["blocks.1.mlp.fc1.weight"] = state_dict["blocks.1.mlp.fc1.weight"] * 1e38
    torch.save(state_dict, here / "large.pth")
    status, output, _ = call(capsys, "convert", "large.pth", *SETTINGS)
    said = " ".join(output.split())
    assert status == 1
    assert "failed with sdpa: the original has NaN or Inf on native" in said
    assert "(cpu, float32, sdpa): nothing can be concluded." in said
    assert said.endswith("Not shown to be the same model. Nothing was saved.")


def test_what_transformers_does_otherwise_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    _, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    said = " ".join(output.split())
    assert "position-embeddings-offset: position embeddings are resized from M patches a side to n" in said
    sizes = r"[\d.]+ % at 98 x 98, [\d.]+ % at 56 x 98, [\d.]+ % at 224 x 224; a single value by up to [\d.]+\."
    assert re.search(f"What this model returns is off by {sizes}", said)
    assert "Only 70 x 70 pixels are identical. The image processor makes 224 x 224, where" in said
    assert "--image-size 224" in said


@pytest.mark.parametrize(("options", "few"), [((), 4), (("--thorough",), 7)])
def test_each_attention_has_its_inputs(
    options: tuple[str, ...], few: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To verify the folder once more is as thorough; nothing is baked for it."""
    _, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS, *options)
    assert re.findall(r"on\s+(\d) inputs", output) == [str(few), "7"]
    counts = []

    def verify(subject: Subject, cell: Cell) -> MatrixVerdict:
        found = verify_cell(subject, cell)
        counts.append(len(found.inputs))
        return found

    monkeypatch.setattr("conversion.cli.verifying.verify_cell", verify)
    assert call(capsys, "verify", "--deep", "mine")[0] == 0
    assert counts == [min(few, 6), 6]


def test_the_lines_that_load_it_give_what_is_identical(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    lines = output[output.index("from transformers") :].replace("\n  ", "\n")
    held: dict[str, Any] = {}
    exec(lines, held)
    assert type(held["model"]).__name__ == "Dinov2Model"
    pixel_values = held["processor"](open_photo(), return_tensors="pt")["pixel_values"]
    assert pixel_values.shape == (1, 3, 70, 70)
    golden = read_golden("dinov2_tiny_1layer")
    original = golden.family.load_original(replace(golden.spec, num_classes=0), golden.backbone)
    with torch.inference_mode():
        expected = original(pixel_values)["x_norm_patchtokens"]
        assert is_bit_equal(held["model"](pixel_values).last_hidden_state[:, 1:], expected)


def test_a_baked_one_is_identical_at_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", "--image-size", "42", *SETTINGS)
    assert status == 0
    assert "position-embeddings" not in output
    assert "pixels are identical" not in output


def test_programs_are_answered_in_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", "--json", *SETTINGS)
    answer = json.loads(output)
    assert (status, answer["same"], answer["output"]) == (0, True, str(here / "mine"))
    assert {each["attention"]: each["verdict"] for each in answer["conversion"]} == {"eager": "close", "sdpa": "exact"}
    assert answer["sizes"]["identical"] == [70]


def test_another_model_is_not_saved(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from conversion.suite import subject as subjects

    def load_wrong(*arguments: object, **options: object) -> torch.nn.Module:
        model = load_model(*arguments, **options)  # type: ignore[arg-type]
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
        return model

    monkeypatch.setattr(subjects, "load_model", load_wrong)
    status, output, _ = call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    assert status == 1
    assert "Not the same model. Nothing was saved." in output
    assert "first at block.0.norm1" in output
    assert not (here / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.pth",), "absent.pth: there is no such file"),
        (("dinov2_vitl41",), "Did you mean dinov2_vitl14"),
        (("tiny.pth",), "--num-attention-heads"),
        (("tiny.pth", "--num-attention-heads", "none"), "--num-attention-heads"),
        (("tiny.pth", "--image-size", "43", *SETTINGS), "43"),
        (("tiny.pth", "--variant", "dinov2_vits41"), "Did you mean dinov2_vits14"),
        (("tiny.pth", "--variant", "dinov2_vits14"), "dinov2_vits14 was asked for"),
        (("data2vec_vision_base_ade20k",), "no official weights are published"),
        (
            ("dinov2_vits14", "--weights", "synthetic", "--variant", "dinov2_vitb14"),
            "--variant: only for a checkpoint of one's own",
        ),
        (("dinov3_vits16", "--as", "backbone"), "only a DINOv2 can be made a backbone.\nLeave --as backbone out."),
        (("dinov2_vits14", "--pool-scales", "1,2"), "A dinov2 model has no pool_scales.\nLeave out --pool-scales."),
        (("tiny.pth", "--variant", "dinov2_vits14", "--input-size", "98"), "has input_size as usual, not 98"),
        (("dinov2_vits14", "--weights", "none"), "neither pretrained nor synthetic"),
        (("tiny.pth", "--save-dtype", "float8", *SETTINGS), "float8"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_once(
    arguments: tuple[str, ...], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = call(capsys, "convert", *arguments, *(("-o", "mine") if arguments else ()))
    assert status == 2
    assert errors.count(message) == 1
    assert "Traceback" not in errors
    assert not output
    assert not (here / "mine").exists()


def test_the_variant_that_is_named_is_taken_and_not_the_first() -> None:
    request = build_request("dinov2_vitb14")
    assert choose_name(request, choose_variants(request)) == "dinov2_vitb14"


def test_a_folder_that_is_converted_already_is_not_converted_again(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    for arguments in (("convert", "mine", "-o", "again"), ("compare", "mine", "mine")):
        status, output, errors = call(capsys, *arguments)
        assert (status, output) == (2, "")
        assert errors.startswith("mine: is converted already; the original checkpoint is needed.")
        assert "vision-parity verify mine" in errors


def test_inspecting_says_what_is_there_and_what_has_to_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = call(capsys, "inspect", "tiny.pth")
    assert status == 2
    assert "It cannot be converted as it is" in output
    assert "--num-attention-heads" in output
    assert "--variant NAME" in output
    status, output, _ = call(capsys, "inspect", "tiny.pth", *SETTINGS)
    assert status == 0
    assert "3 blocks of width 32, 2 heads; patches of 14 pixels" in output
    assert "native size 70 x 70 pixels; its image processor makes 224 x 224" in output
    assert "told by you" in output


def test_it_goes_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    status, output, _ = call(capsys, "restore", "mine", "back.pth")
    assert status == 0
    assert output.startswith("back.pth\n")
    said = re.search(r"told beside it: (.*); to convert", " ".join(output.split()))
    assert said is not None
    assert call(capsys, "convert", "back.pth", "-o", "again", *said[1].split())[0] == 0
    for name in ("config.json", "model.safetensors"):
        assert (here / "again" / name).read_bytes() == (here / "mine" / name).read_bytes()
    back, own = torch.load(here / "back.pth"), read_golden("dinov2_tiny_1layer").backbone
    assert back.keys() == own.keys()
    assert all(is_bit_equal(back[key], own[key]) for key in own)
    status, _, errors = call(capsys, "restore", "mine", "back.pth")
    assert status == 2
    assert "exists already" in errors


def test_what_would_be_published_is_shown_without_a_login(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    call(capsys, "convert", "tiny.pth", "-o", "mine", *SETTINGS)
    status, output, _ = call(capsys, "publish", "mine", "my-org/mine", "--dry-run")
    assert status == 0
    assert "mine to my-org/mine, private: README.md, config.json, model.safetensors" in output
    assert output.endswith("Nothing was sent.\n")
    status, _, errors = call(capsys, "publish", "mine", "my-org", "--dry-run")
    assert (status, errors.count("its weights have no name")) == (2, 1)


def test_variants_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["variants"]) == 0
    output = capsys.readouterr().out
    assert [name for name in conversion.VARIANTS if not re.search(rf"^{name} ", output, re.MULTILINE)] == []
    assert main(["variants", "--json"]) == 0
    assert [row["variant"] for row in json.loads(capsys.readouterr().out)] == list(conversion.VARIANTS)
