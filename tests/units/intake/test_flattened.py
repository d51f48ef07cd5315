"""Rank files of DINOv2's training on several GPUs: flattened parameters get back the shapes that are told."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.cli.app import main
from conversion.errors import CheckpointError, VariantError
from conversion.families.base import find_dropped
from conversion.families.variants import VARIANTS
from conversion.intake import layouts, training_config
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from tests.support.checkpoint_files import same
from tests.support.corpus.making import write_ranks
from tests.support.fsdp_run import DEPTH, HEADS, IMAGE_SIZE, PATCH_SIZE, RUNS, Backbone, write_config
from tests.support.processes import run_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:entry .'model'.*taken; not"),
    pytest.mark.xdist_group("flattened"),  # or every worker would start the processes that save
]

RANKS = "model_0000009.rank_*.pth"
WHOLE = Path("eval", "training_9", "teacher_checkpoint.pth")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of several trainings saved."""
    folder = tmp_path_factory.mktemp("runs")
    run_ranks(2, "tests.support.fsdp_run", str(folder))
    return folder


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one training, whose architecture is as small as its name says."""
    monkeypatch.setitem(training_config.ARCHITECTURES, "vit_small", (RUNS[request.param][0], DEPTH, HEADS))
    return runs / str(request.param)


@pytest.fixture
def copied(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training to be changed."""
    monkeypatch.setitem(training_config.ARCHITECTURES, "vit_small", (RUNS["chunks"][0], DEPTH, HEADS))
    shutil.copytree(runs / "chunks", tmp_path / "run")
    return tmp_path / "run"


def read_teacher(run: Path) -> dict[str, Tensor]:
    """The backbone in the whole file that training writes for evaluation."""
    whole = load_checkpoint(run / WHOLE)
    return {key: tensor for key, tensor in whole.items() if not find_dropped(key)}


def test_the_teacher_is_that_of_the_whole_file_bit_for_bit(run: Path) -> None:
    checkpoint = read_checkpoint(run / RANKS)
    assert same(checkpoint.state_dict, read_teacher(run))
    assert same(load_checkpoint(run), read_teacher(run))  # the run's whole folder
    steps = {step.name: step.did for step in checkpoint.steps}
    kept = RUNS[run.name][3]
    assert re.search(
        r"\d+ parameters of \d FSDP unit\(s\) on 2 ranks .* config\.yaml of the training run", steps["merge"]
    )
    assert ("and their names" in steps["merge"]) == kept
    assert "left out, projection head of the DINO loss, used in training only: dino_head" in steps["merge"]
    assert steps["merge"].endswith("the same as eval/training_9/teacher_checkpoint.pth, bit for bit")
    assert checkpoint.known["num_attention_heads"] == HEADS


def test_the_student_is_the_users_choice(copied: Path) -> None:
    checkpoint = read_checkpoint(copied / RANKS, entry="student")
    whole = load_checkpoint(copied / "eval" / "student.pth")
    assert same(checkpoint.state_dict, {key: tensor for key, tensor in whole.items() if not find_dropped(key)})
    assert "teacher_checkpoint" not in "".join(step.did for step in checkpoint.steps)


def test_rank_files_become_a_verified_artifact_by_one_command(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copied)
    status = main(("convert", RANKS, "-o", "converted"))
    captured = capsys.readouterr()
    assert status == 0, captured.out + captured.err
    assert "exact with sdpa" in captured.out
    restored = conversion.load_checkpoint(copied / "converted")
    assert same(restored, read_teacher(copied))


def test_the_order_of_parameters_is_that_of_the_authors_modules() -> None:
    settings = {"patch_size": PATCH_SIZE, "num_register_tokens": 4, "block_chunks": 0, "arch": "vit_small"}
    config = {"student": settings, "crops": {"global_crops_size": IMAGE_SIZE}}
    layout = layouts.describe_training(Path("config.yaml"), config)
    names = [name for name in layout.shapes if not name.startswith("blocks.") or name.startswith("blocks.0.")]
    theirs = [name for name, _ in Backbone(384, 4, 0, ()).named_parameters()]
    assert names == [name for name in theirs if not name.startswith("blocks.") or name.startswith("blocks.0.")]
    assert [name for name in names if not name.startswith("blocks.")] == [
        "cls_token", "pos_embed", "register_tokens", "mask_token", "patch_embed.proj.weight", "patch_embed.proj.bias",
        "norm.weight", "norm.bias",
    ]  # fmt: skip


def test_nobody_tells_their_shapes(copied: Path) -> None:
    (copied / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"flattened parameters.*\n.*config\.yaml.*--like dinov2_vits14"):
        load_checkpoint(copied / RANKS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An official model that is as small as those of the runs, at another image size."""
    row = VARIANTS["dinov2_vits14"]
    sizes = {"embed_dim": 32, "depth": DEPTH, "num_heads": HEADS, "patch_size": PATCH_SIZE, "image_size": 70}
    monkeypatch.setattr(layouts, "find_variant", lambda _name: replace(row, spec={**row.spec, **sizes}))


@pytest.mark.usefixtures("small")
def test_an_official_model_of_the_same_shapes_tells_them(copied: Path) -> None:
    (copied / "config.yaml").unlink()
    checkpoint = read_checkpoint(copied / RANKS, like="dinov2_vits14")
    assert same(checkpoint.state_dict, read_teacher(copied))
    assert checkpoint.state_dict.told["num_attention_heads"].by == "--like dinov2_vits14"
    assert "interpolate_offset" not in checkpoint.known


@pytest.mark.usefixtures("small")
def test_the_option_names_the_official_model(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "config.yaml").unlink()
    assert main(("inspect", str(copied), "--like", "dinov2_vits14")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "put back into the shapes that --like dinov2_vits14 tells" in said
    assert "num_attention_heads 2: told by --like dinov2_vits14" in said


@pytest.mark.usefixtures("small")
def test_without_names_in_the_files_an_official_model_must_have_the_very_shapes(runs: Path) -> None:
    run = runs / "flattened alone"
    with pytest.raises(CheckpointError, match=r"(?s)of another model than --like dinov2_vits14 tells.*_flat_param"):
        load_checkpoint(run / RANKS, like="dinov2_vits14")


def test_another_official_model_is_refused_with_what_differs(copied: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"(?s)another model than --like dinov2_vits14.*missing: blocks\.4\."
    ) as raised:
        load_checkpoint(copied / RANKS, like="dinov2_vits14")
    assert raised.value.hint.startswith("Name an official model of the same width and depth: --like NAME")
    with pytest.raises(VariantError, match="Did you mean dinov2_vits14"):
        load_checkpoint(copied / RANKS, like="dinov2_vits")
    with pytest.raises(CheckpointError, match=r"order of its parameters .* not known.*\n.*dinov2_vits14"):
        load_checkpoint(copied / RANKS, like="data2vec_vision_base")


def test_an_entry_belongs_to_a_training_run_alone(made: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"this folder holds one model\.\nLeave --entry out\."):
        load_checkpoint(made["dinov2_tiny"], entry="teacher")


def test_likeness_belongs_to_rank_files_alone(copied: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--like applies only to the rank files of a .*\.\nLeave --like out\."):
        load_checkpoint(copied / WHOLE, like="dinov2_vits14")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("num_register_tokens: 0", "num_register_tokens: 4", r"missing: register_tokens \(1, 4, 32\)"),
        ("global_crops_size: 28", "global_crops_size: 35", r"pos_embed: 544 elements, \(1, 26, 32\) by config\.yaml"),
        ("qkv_bias: true", "qkv_bias: false", r"unexpected: blocks\.0\.attn\.qkv\.bias, 96 elements"),
        ("layerscale: 1.0e-05", "layerscale: null", r"unexpected: blocks\.0\.ls1\.gamma, 32 elements"),
        ("ffn_layer: mlp", "ffn_layer: swiglu", r"missing: blocks\.0\.mlp\.w12\.weight"),
        ("ffn_layer: mlp", "ffn_layer: identity", r"these values tell no shapes.*\n.*student\.ffn_layer: 'identity'"),
        ("patch_size: 7", "patch_size: seven", r"these values tell no shapes.*\n.*patch_size: 'seven'"),
        ("global_crops_size: 28", "global_crops_size: 6", r"these values tell no shapes.*\n.*patch_size: 7"),
    ],
)
def test_the_config_of_another_training_is_refused(copied: Path, old: str, new: str, says: str) -> None:
    config = copied / "config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=f"(?s).*{says}") as raised:
        load_checkpoint(copied / RANKS)
    assert str(copied) in raised.value.headline
    assert raised.value.hint == "Put the config.yaml of the run that wrote these files in its place."


def test_another_order_than_is_known_is_noticed_by_the_names_in_the_files(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = layouts.describe_training

    def reverse(path: Path, config: Mapping[str, Any]) -> layouts.Layout:
        layout = described(path, config)
        return replace(layout, shapes=dict(reversed(layout.shapes.items())))

    monkeypatch.setattr(layouts, "describe_training", reverse)
    with pytest.raises(CheckpointError, match=r"in another order.*\n.*cls_token: not what the flat parameter holds"):
        load_checkpoint(copied / RANKS)


def test_a_rank_that_is_missing_is_noticed(copied: Path) -> None:
    shutil.copy(copied / "model_0000009.rank_0.pth", copied / "model_0000009.rank_1.pth")
    with pytest.raises(
        CheckpointError, match=r"_flat_param: pieces make up \(\d+,\), not \(\d+,\): a rank file is miss"
    ):
        load_checkpoint(copied / RANKS)


FLAT = torch.ones(8)

# what two ranks hold, as older versions of FSDP save it
REFUSED: dict[str, tuple[tuple[dict[str, Tensor], dict[str, Tensor]], str]] = {
    "heads alone": (({"dino_head._flat_param": FLAT},) * 2, r"of training losses alone.*\n.*dino_head\._flat_param"),
    "a unit of one rank alone": (
        ({"_flat_param": FLAT, "blocks.0._flat_param": FLAT}, {"_flat_param": FLAT}),
        r"blocks\.0\._flat_param: in 1 of 2 rank files",
    ),
    "a unit in two dimensions": (({"_flat_param": torch.ones(4, 2)},) * 2, r"has the shape \(8, 2\), in the place of"),
    "a unit of another module": (
        ({"_flat_param": FLAT, "norm._flat_param": FLAT},) * 2,
        r"neither the model nor its blocks.*\n.*- norm\.",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_flattened_parameters_that_cannot_be_a_model_are_refused(what: str, tmp_path: Path) -> None:
    held, says = REFUSED[what]
    (tmp_path / "config.yaml").write_text(write_config(0, 0, ()))
    write_ranks(tmp_path, *held)
    with pytest.raises(CheckpointError, match=says) as raised:
        load_checkpoint(tmp_path)
    assert raised.value.hint.startswith("Save the whole state dict where the run was made")


@pytest.mark.parametrize("name", ["model_0000009", "model_final"])
def test_without_a_whole_teacher_nothing_is_said_of_one(name: str, copied: Path) -> None:
    for path in copied.glob(RANKS):
        path.rename(path.with_name(path.name.replace("model_0000009", name)))
    teacher = read_teacher(copied)
    if name == "model_0000009":
        shutil.rmtree(copied / "eval")
    checkpoint = read_checkpoint(copied / f"{name}.rank_*.pth")
    assert same(checkpoint.state_dict, teacher)
    assert "teacher_checkpoint" not in "".join(step.did for step in checkpoint.steps)


def test_a_whole_teacher_that_differs_is_said(copied: Path) -> None:
    content = torch.load(copied / WHOLE, weights_only=True)
    content["teacher"]["backbone.norm.bias"] += 1
    torch.save(content, copied / WHOLE)
    with pytest.raises(
        CheckpointError, match=r"is not that of eval/training_9/.*\n.*norm\.bias: other values"
    ) as raised:
        load_checkpoint(copied / RANKS)
    assert str(copied / WHOLE) in raised.value.hint
