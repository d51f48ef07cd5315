"""Files of linear heads, as DINOv2's evaluation and torch.hub write them, beside the backbone that they go with."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.cli.app import main
from conversion.errors import CheckpointError, VariantError
from conversion.families.base import Family, load_family
from conversion.families.told import Told
from conversion.families.variants import VARIANTS
from conversion.intake.checkpoint import load_checkpoint
from conversion.intake.linear_head import read_linear_head
from conversion.parity.metrics import is_bit_equal
from tests.support.commands import run
from tests.support.golden import list_options, read_golden

WIDTH, CLASSES = 32, 10
JOINED, ALONE = "classifier_1_blocks_avgpool_True_lr_0_00100", "classifier_1_blocks_avgpool_False_lr_0_00100"
FOUR = "classifier_4_blocks_avgpool_True_lr_0_00100"
OPTIONS = list_options("dinov2_tiny_1layer")


def draw_heads(prefix: str = "classifiers_dict.") -> dict[str, Tensor]:
    """As ``AllClassifiers`` of ``dinov2/eval/linear.py`` has them in its state dict, for one learning rate."""
    generator = torch.Generator().manual_seed(0)
    heads = {}
    for layers in (1, 4):
        for avgpool in (False, True):
            name = f"{prefix}classifier_{layers}_blocks_avgpool_{avgpool}_lr_0_00100.linear"
            heads[f"{name}.weight"] = torch.randn(CLASSES, WIDTH * (layers + avgpool), generator=generator)
            heads[f"{name}.bias"] = torch.randn(CLASSES, generator=generator)
    return heads


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """A folder with a backbone, and what the evaluation under DDP leaves beside it."""
    torch.save(read_golden("dinov2_tiny_1layer").backbone, tmp_path / "teacher.pth")
    content = {"model": draw_heads("module.classifiers_dict."), "optimizer": {}, "scheduler": {}, "iteration": 12_499}
    torch.save(content, tmp_path / "running_checkpoint_linear_eval.pth")
    return tmp_path


def test_the_heads_that_fit_are_listed(evaluated: Path) -> None:
    backbone, file = load_checkpoint(evaluated / "teacher.pth"), evaluated / "running_checkpoint_linear_eval.pth"
    with pytest.raises(CheckpointError) as raised:
        read_linear_head(file, backbone)
    assert raised.value.headline == f"{file}: holds 4 linear heads."
    assert raised.value.problems == (
        f"{ALONE} (10, 32)", f"{JOINED} (10, 64)", "2 more, which transformers' classifier cannot take",
    )  # fmt: skip
    assert "--linear-head-entry NAME" in raised.value.hint
    with pytest.raises(CheckpointError, match="the linear head's file: holds 4 linear heads"):
        conversion.convert(backbone, linear_head=load_checkpoint(file), num_attention_heads=2)


@pytest.mark.parametrize("entry", [JOINED, f"classifiers_dict.{JOINED}", f"module.classifiers_dict.{JOINED}.linear"])
def test_one_is_chosen_by_any_of_its_names(entry: str, evaluated: Path) -> None:
    backbone, file = load_checkpoint(evaluated / "teacher.pth"), evaluated / "running_checkpoint_linear_eval.pth"
    read = read_linear_head(file, backbone, entry)
    wanted = draw_heads()[f"classifiers_dict.{JOINED}.linear.weight"]
    assert read.state_dict.keys() == {"weight", "bias"}
    assert is_bit_equal(read.state_dict["weight"], wanted)
    assert next(step.did for step in read.steps if step.name == "choose").count("classifier_") == 4
    for linear_head, chosen in ((read.state_dict, None), (load_checkpoint(file), entry)):
        out = conversion.convert(
            backbone, linear_head=linear_head, linear_head_entry=chosen, **read_golden("dinov2_tiny_1layer").overrides
        )
        assert is_bit_equal(out.state_dict["classifier.weight"], wanted)


def test_a_head_on_the_cls_token_is_filled_up_with_zeros(evaluated: Path) -> None:
    backbone, file = load_checkpoint(evaluated / "teacher.pth"), evaluated / "running_checkpoint_linear_eval.pth"
    head = read_linear_head(file, backbone, ALONE).state_dict
    out = conversion.convert(backbone, linear_head=head, **read_golden("dinov2_tiny_1layer").overrides)
    first, second = out.state_dict["classifier.weight"].chunk(2, dim=1)
    assert is_bit_equal(first.contiguous(), head["weight"])
    assert not second.any()
    assert out.told["global_pool"] == Told("token", f"the linear head's name, {ALONE}")
    assert any("the CLS token alone: zeros stand" in note for note in out.notes)


def test_an_official_model_does_not_tell_what_another_head_than_its_own_takes() -> None:
    family: Family[Any] = load_family("dinov2")
    shapes = family.original_shapes(family.spec_of(VARIANTS["dinov2_vits14"]))
    backbone = {key: torch.zeros(shape) for key, shape in shapes.items()}
    head = {"weight": torch.zeros(1000, 384), "bias": torch.zeros(1000)}
    with pytest.raises(
        CheckpointError, match=r"\n.*global_pool: give --global-pool as it was in training; most such models have token"
    ) as raised:
        conversion.convert(backbone, linear_head=head)
    assert len(raised.value.problems) == 1
    for named in ("dinov2_vits14_1layer", "dinov2_vits14"):
        with pytest.raises(VariantError, match=r"(?s)takes one of both\.\nName no variant, .*--global-pool avg"):
            conversion.convert(backbone, named, linear_head=head)
    for pooling, taken in (("token", "CLS token"), ("avg", "mean of patches")):
        out = conversion.convert(backbone, linear_head=head, global_pool=pooling)
        assert any(f"takes the {taken} alone" in note for note in out.notes)


def test_heads_that_do_not_fit_are_refused(evaluated: Path) -> None:
    backbone, file = load_checkpoint(evaluated / "teacher.pth"), evaluated / "running_checkpoint_linear_eval.pth"
    with pytest.raises(CheckpointError, match=rf"(?s)eval.pth: {FOUR} \(10, 160\) is made for 4 layers.*{JOINED}"):
        read_linear_head(file, backbone, FOUR)
    with pytest.raises(CheckpointError, match=rf"(?s)holds no linear head 'best'.*{JOINED}.*one of these names"):
        read_linear_head(file, backbone, "best")
    alien = {**backbone, "cls_token": torch.zeros(1, 1, 48)}
    with pytest.raises(CheckpointError, match=rf"{JOINED} \(10, 64\) is of another backbone.*96 wide"):
        read_linear_head(file, alien, JOINED)


def test_where_no_head_fits_none_is_to_be_chosen(evaluated: Path) -> None:
    backbone, file = load_checkpoint(evaluated / "teacher.pth"), evaluated / "heads.pth"
    torch.save({key: tensor for key, tensor in draw_heads().items() if "classifier_4" in key}, file)
    with pytest.raises(CheckpointError, match=r"made for 4 layers.*\n.*\nGive a head that was trained on one layer\.$"):
        read_linear_head(file, backbone, FOUR)


@pytest.mark.parametrize(("tensors", "said"), [
    ({"weight": (1000, 5 * WIDTH), "bias": (1000,)},
     r"head.pth: a linear head \(1000, 160\) is made for four layers \(torch.hub: dinov2_\*_lc4\).*without a 4"),
    ({"weight": (10, 6 * WIDTH), "bias": (10,)}, r"head.pth: .*\(10, 192\) does not fit this backbone: .* 64 wide"),
    ({"weight": (10, 2 * WIDTH)}, "missing: linear_head.bias"),
    ({"weight": (10,), "bias": (10,)}, r"linear_head\.weight: \(10,\), needed with 2 dim"),
    ({"weight": (10, 2 * WIDTH), "bias": (10,), "extra": (1,)}, "unexpected: linear_head.extra"),
    ({"weight": (10, WIDTH), "bias": (10,)}, "global_pool: give --global-pool as it was in training"),
])  # fmt: skip
def test_a_head_of_its_own_file_is_refused(tensors: dict[str, tuple[int, ...]], said: str, tmp_path: Path) -> None:
    golden = read_golden("dinov2_tiny_1layer")
    torch.save({key: torch.zeros(shape) for key, shape in tensors.items()}, tmp_path / "head.pth")
    with pytest.raises(conversion.ConversionError, match=f"(?s){said}"):
        head = read_linear_head(tmp_path / "head.pth", golden.backbone).state_dict
        conversion.convert(golden.backbone, linear_head=head, num_attention_heads=2)
    with pytest.raises(CheckpointError, match=r"(?s)no linear head 'x'.*Leave --linear-head-entry out"):
        torch.save(golden.linear_head, tmp_path / "head.pth")
        read_linear_head(tmp_path / "head.pth", golden.backbone, "x")


def test_a_head_of_four_layers_within_a_whole_model_is_refused(tmp_path: Path) -> None:
    """As torch.hub's ``dinov2_*_lc4`` has it in its state dict."""
    backbone = {f"backbone.{key}": tensor for key, tensor in read_golden("dinov2_tiny_1layer").backbone.items()}
    head = {"linear_head.weight": torch.zeros(1000, 5 * WIDTH), "linear_head.bias": torch.zeros(1000)}
    torch.save(backbone | head, tmp_path / "lc4.pth")
    with pytest.raises(CheckpointError, match=r"(?s)linear_head.weight \(1000, 160\) is made for four.*dinov2_\*_lc,"):
        conversion.convert(load_checkpoint(tmp_path / "lc4.pth"), num_attention_heads=2)


def test_a_linear_classifiers_own_names_are_taken() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    named = {f"linear.{key}": tensor for key, tensor in golden.linear_head.items()}
    out = conversion.convert(golden.backbone, linear_head=named, **golden.overrides)
    assert is_bit_equal(out.state_dict["classifier.weight"], golden.linear_head["weight"])


@pytest.mark.parametrize(("heads", "said", "way_out"), [
    ({"weight": torch.ones(10, 64), "bias": torch.ones(10)}, r"head \(10, 64\), and no", "--linear-head THIS_FILE"),
    ({"linear.weight": torch.ones(10, 64), "linear.bias": torch.ones(10)}, "a linear head", "--linear-head THIS_FILE"),
    ({"model": draw_heads()}, "4 linear heads, and no model", "--linear-head THIS_FILE --linear-head-entry NAME"),
])  # fmt: skip
def test_a_head_given_as_a_checkpoint_says_what_it_is(
    heads: dict[str, Tensor], said: str, way_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(heads, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match=rf"(?s){said}.*vision-parity convert BACKBONE {way_out}$"):
        conversion.convert(load_checkpoint(tmp_path / "head.pth"))
    assert main(["convert", str(tmp_path / "head.pth")]) == 2
    assert "head.pth: " in capsys.readouterr().err


def test_the_command_takes_the_one_that_is_chosen(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(evaluated)
    heads = ["teacher.pth", *OPTIONS, "--linear-head", "running_checkpoint_linear_eval.pth"]
    assert main(["convert", *heads]) == 2
    assert "linear_eval.pth: holds 4 linear heads" in capsys.readouterr().err
    with warnings.catch_warnings(action="ignore"):
        assert main(["convert", *heads, "--linear-head-entry", ALONE, "-o", "model"]) == 0
        assert main(["compare", heads[0], "model", *heads[1:], "--linear-head-entry", ALONE]) == 0
        assert main(["compare", heads[0], "model", *heads[1:], "--linear-head-entry", JOINED]) == 1
    card = json.loads((evaluated / "model" / "parity.json").read_text(encoding="utf-8"))
    assert card["told"]["global_pool"]["value"] == "token"
    assert f"linear head {ALONE} taken; left out: {JOINED}" in json.dumps(card["source"])
    capsys.readouterr()
    assert main(["inspect", *heads, "--linear-head-entry", JOINED]) == 0
    assert "choose of the linear head" in capsys.readouterr().out
    assert main(["convert", "teacher.pth", "--linear-head-entry", JOINED]) == 2
    assert "--linear-head-entry belongs to --linear-head" in capsys.readouterr().err


def test_pytest_takes_the_one_that_is_chosen(evaluated: Path) -> None:
    parity = str(Path(__file__).parents[2] / "parity" / "test_parity.py")
    heads = ("--checkpoint=teacher.pth", *OPTIONS, "--linear-head=running_checkpoint_linear_eval.pth")
    code, output = run(evaluated, *heads, f"--linear-head-entry={ALONE}", parity, "--attention=sdpa")
    assert code == 0, output
    code, output = run(evaluated, *heads, parity)
    assert code != 0
    assert "holds 4 linear heads" in output
