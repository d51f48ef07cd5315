"""Files with several things in them: which model is taken, and what is said of all that is not."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from conversion.errors import CheckpointError, ConversionWarning
from conversion.families.base import load_family
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from tests.support.checkpoint_files import same, save
from tests.support.golden import read_golden, tiny
from tests.support.prefixed import HEAD, PREFIXED, put_under, shift
from tests.support.verified import is_verified

DINOV2 = read_golden("dinov2_tiny")
REGISTERS = read_golden("dinov2_tiny_reg")


def build() -> nn.Module:
    return load_family("dinov2").load_original(DINOV2.spec, tiny())


def average() -> dict[str, Tensor]:
    """The state dict of torch's averaged model, after an update."""
    model = build()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    averaged.update_parameters(model)
    return averaged.state_dict()


def exchange(content: dict[str, Any]) -> dict[str, Any]:
    """What mmengine's EMAHook does before it saves: of the same keys, the averaged weights go to the model's entry."""
    for key in content["ema_state_dict"]:
        if key.startswith("module."):
            name = key.removeprefix("module.")
            averaged, raw = content["ema_state_dict"][key], content["state_dict"][name]
            content["ema_state_dict"][key], content["state_dict"][name] = raw, averaged
    return content


def write_mmengine(**others: Any) -> dict[str, Any]:
    """A file of mmengine's, its average in the entry that is named for it; ``fixtures/tools`` has one that it wrote."""
    averaged = put_under("module.", tiny()) | {"steps": torch.tensor(7)}
    return {"meta": {}, "state_dict": shift(tiny()), "ema_state_dict": averaged, **others}


def read(content: object, folder: Path, entry: str | None = None) -> tuple[Checkpoint, dict[str, str], list[str]]:
    """A file that holds this, read; what intake did; what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = read_checkpoint(save(content, folder / "file.pth"), entry=entry)
    said = [str(each.message) for each in caught if each.category is ConversionWarning]
    return checkpoint, {step.name: step.did for step in checkpoint.steps}, said


@pytest.mark.parametrize(
    "name",
    ["ema_model", "model_ema_state_dict", "swa_model", "teacher_model", "modelEma", "ema_weights", "target_encoder"],
)
def test_an_averaged_model_is_known_by_the_words_of_its_name(name: str, tmp_path: Path) -> None:
    checkpoint, steps, said = read({"model": shift(tiny()), name: tiny(), "epoch": 3}, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    choice = f"entry [{name!r}] taken; not 'model', which also holds a model (--entry to choose)"
    assert steps["unwrap"] == f"{choice}; left out, no part of the model: 'epoch'"
    assert said == [f"{checkpoint.path}: {choice}"]
    assert is_verified(checkpoint.path)
    raw, steps, said = read({"model": shift(tiny()), name: tiny(), "epoch": 3}, tmp_path, "model")
    assert same(raw.state_dict, shift(tiny()))
    assert f"not {name!r}, which also holds a model; left out" in steps["unwrap"]
    assert said == []


@pytest.mark.parametrize("name", ["backbone2", "student_model", "current_model_state", "online_network"])
def test_whatever_holds_a_model_and_is_not_taken_is_named(name: str, tmp_path: Path) -> None:
    checkpoint, _, said = read({name: {"inner": shift(tiny())}, "model": tiny()}, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert said == [
        f"{checkpoint.path}: entry ['model'] taken; not {name!r}, which also holds a model (--entry to choose)"
    ]


def test_an_entry_of_any_name_is_taken_where_it_alone_holds_a_model(tmp_path: Path) -> None:
    content = {
        "trunk": tiny(),
        "discriminator": {"conv.weight": torch.ones(3), "conv.bias": torch.ones(3)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        "step": 3,
    }
    checkpoint, steps, said = read(content, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert steps["unwrap"] == (
        "entry ['trunk'] taken; "
        "left out, no model of a known family: 'discriminator' (2 tensors), 'optimizer' (1 tensor); "
        "left out, no part of the model: 'step'"
    )
    assert said == []


def test_an_optimizers_averages_are_no_model(tmp_path: Path) -> None:
    content = {"optimizer": {"exp_avg": tiny()}, "model": {"conv.weight": torch.ones(3)}}
    _, steps, _ = read(content, tmp_path)
    assert steps["unwrap"].startswith("entry ['model'] taken; left out, no model of a known family: 'optimizer' (")


def test_tensors_beside_an_entry_that_make_a_model_are_named(tmp_path: Path) -> None:
    checkpoint, _, said = read({**put_under("net.vit.", shift(tiny())), "ema": tiny()}, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    count = len(tiny())
    assert f"not 'net.' ({count} tensors, as {min(put_under('net.vit.', tiny()))}), which also holds a model" in said[0]


def test_torchs_averaged_model_is_taken_with_its_counter_left_out_by_name(tmp_path: Path) -> None:
    averaged = average()
    assert next(iter(averaged)) == "n_averaged"
    for content in (averaged, {"model": shift(tiny()), "model_ema": averaged, "epoch": 3}):
        checkpoint, steps, said = read(content, tmp_path)
        assert same(checkpoint.state_dict, tiny())
        assert steps["strip"] == "'module.' taken off keys; left out, counts the updates of an average: 'n_averaged'"
        assert len(said) == ("model_ema" in content)
        assert is_verified(checkpoint.path)


def test_mmengines_average_lies_where_it_puts_it(tmp_path: Path) -> None:
    exchanged = exchange(write_mmengine(message_hub={"log_scalars": {}}))
    checkpoint, steps, said = read(exchanged, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert "entry ['state_dict'] taken; not 'ema_state_dict', which holds the raw weights: mmengine" in said[0]
    raw, steps, _ = read(exchanged, tmp_path, "ema_state_dict")
    assert same(raw.state_dict, shift(tiny()))
    assert steps["strip"].endswith("left out, counts the updates of an average: 'steps'")
    other, _, said = read(write_mmengine(), tmp_path)  # of a code that exchanges nothing
    assert same(other.state_dict, tiny())
    assert "entry ['ema_state_dict'] taken; not 'state_dict', which also holds a model" in said[0]


def test_lightnings_average_lies_under_state_dict(tmp_path: Path) -> None:
    """As its WeightAveraging leaves the file: without ``module.``, the counter in an entry of its own."""
    content = {
        "current_model_state": put_under("backbone.", shift(tiny())),
        "state_dict": put_under("backbone.", tiny()),
        "averaging_state": {"n_averaged": torch.tensor(3)},
    }
    checkpoint, steps, said = read(content, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert "not 'current_model_state', which holds the raw weights: Lightning's WeightAveraging" in said[0]
    assert steps["unwrap"].endswith("left out, no model of a known family: 'averaging_state' (1 tensor)")


# where the model lies, and what is said of the rest
TAKEN: dict[str, tuple[str, str]] = {
    "a depth network": (
        "pretrained",
        "left out, outside of it: 'depth_net.' (2 tensors, as depth_net.projects.0.weight)",
    ),
    "VGGT": (
        "aggregator.patch_embed",
        "left out, outside of it: 'camera_head.weight', 'aggregator.camera_token'",
    ),
    "a Lightning module": (
        "model.backbone",
        "left out, outside of it: 'classifier.' (2 tensors, as classifier.weight)",
    ),
    "an average of one": (
        "module.model.backbone",
        "left out, outside of it: 'classifier.' (2 tensors, as classifier.weight)",
    ),
    "one that was compiled": (
        "vit",
        "left out, outside of it: 'depth_net.' (2 tensors, as depth_net.projects.0.weight)",
    ),
    "blocks in chunks": (
        "pretrained",
        "left out, outside of it: 'depth_net.' (2 tensors, as depth_net.projects.0.weight)",
    ),
    "nothing beside it": ("vit.trunk", "a whole model lies"),
}


@pytest.mark.parametrize("name", PREFIXED)
def test_one_whole_model_under_any_prefix_is_taken_and_it_is_said(name: str, tmp_path: Path) -> None:
    make, (entry, says) = PREFIXED[name], TAKEN[name]
    expected = {"VGGT": REGISTERS.backbone, "blocks in chunks": read_golden("dinov2_tiny_chunked").backbone}
    checkpoint, steps, said = read(make(), tmp_path)
    assert same(checkpoint.state_dict, expected.get(name, tiny()))
    assert steps["select"].endswith(says)
    assert said == [f"{checkpoint.path}: {steps['select']}"]
    assert is_verified(checkpoint.path)
    chosen, _, said = read(make(), tmp_path, entry)
    assert same(chosen.state_dict, expected.get(name, tiny()))
    assert said == []


def test_the_teacher_is_taken_before_the_student_by_the_names_of_their_prefixes(tmp_path: Path) -> None:
    inner = "_embedding_model.wrapped_model._model"
    models = put_under(f"student{inner}.", shift(tiny())) | put_under(f"teacher{inner}.", tiny())
    content = {"state_dict": models | {"teacher_head.dino_head.last_layer.weight": torch.ones(4, 4)}}
    checkpoint, steps, said = read(content, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert steps["select"] == (
        f"'teacher{inner}.' taken, under which a whole model lies; "
        f"not 'student{inner}.', which also holds a model (--entry to choose); "
        "left out, outside of it: 'teacher_head.dino_head.last_layer.weight'"
    )
    assert len(said) == 1
    student, _, said = read(content, tmp_path, f"student{inner}")
    assert same(student.state_dict, shift(tiny()))
    assert said == []


def test_each_of_several_models_is_listed_with_the_option_that_takes_it(tmp_path: Path) -> None:
    models = put_under("_orig_mod.left.vit.", tiny()) | put_under("_orig_mod.right.vit.", shift(tiny()))
    content = {"state_dict": {"weights": models, "more": {}}, "model": {"a.weight": torch.ones(1)}}
    with pytest.raises(CheckpointError, match="nothing says which is meant") as raised:
        read(content, tmp_path)
    options = [problem.removeprefix("--entry ") for problem in raised.value.problems]
    assert options == ["state_dict.weights.left.vit", "state_dict.weights.right.vit"]
    for option, expected in zip(options, (tiny(), shift(tiny())), strict=True):
        assert same(read(content, tmp_path, option)[0].state_dict, expected)


def test_one_model_under_two_names_is_one_model(tmp_path: Path) -> None:
    checkpoint, steps, _ = read(put_under("a.", tiny()) | put_under("b.c.", tiny()) | HEAD, tmp_path)
    assert same(checkpoint.state_dict, tiny())
    assert "'a.' taken" in steps["select"]
    assert "not 'b.c.', which also holds a model" in steps["select"]


def test_what_lies_under_the_prefix_is_the_models_own(tmp_path: Path) -> None:
    checkpoint, _, _ = read(put_under("vit.", tiny() | {"extra.weight": torch.ones(3)}) | HEAD, tmp_path)
    assert "extra.weight" in checkpoint.state_dict  # which is refused as it is converted


def test_a_part_that_heads_stand_on_is_not_taken_for_the_model(tmp_path: Path) -> None:
    golden = read_golden("data2vec_vision_tiny_ade20k")
    checkpoint, steps, said = read(golden.recorded, tmp_path)
    assert same(checkpoint.state_dict, golden.recorded)
    assert "select" not in steps
    broken = {key: tensor for key, tensor in golden.recorded.items() if key != "decode_head.conv_seg.weight"}
    checkpoint, steps, said = read(broken, tmp_path)
    assert same(checkpoint.state_dict, broken)
    assert said == []


def test_registers_without_a_mask_token_are_no_file_of_timms(tmp_path: Path) -> None:
    without = {key: tensor for key, tensor in REGISTERS.backbone.items() if key != "mask_token"}
    checkpoint, steps, said = read(without, tmp_path)
    assert same(checkpoint.state_dict, without)
    assert "translate" not in steps
    assert said == []
    assert is_verified(checkpoint.path)
