"""What people have becomes a verified artifact by one command."""

import argparse
import json
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.load import load_model
from conversion.artifact.weights import WEIGHTS, read_tensors
from conversion.intake.checkpoint import load_checkpoint
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, PARITY_CARD, PREPROCESSOR
from tests.support.checkpoint_files import same, shard
from tests.support.clones import write_clone
from tests.support.commands import (
    ROOT,
    assert_refused,
    build_environment,
    check_artifact,
    left_over,
    read_verdicts,
    run,
)
from tests.support.forked import run_pytest
from tests.support.golden import list_options, read_golden, tiny, write_artifact
from tests.support.listed import list_files
from tests.support.timm_models import DINOV2, SMALL, build

HEADS = list_options("dinov2_tiny")


def write_teacher(folder: Path) -> tuple[str, ...]:
    golden = read_golden("dinov2_tiny_chunked")
    models = {
        name: {f"backbone.{key}": tensor + offset for key, tensor in golden.recorded.items()}
        | {"dino_head.last_layer.weight": torch.zeros(3, 2), "ibot_head.mlp.0.bias": torch.zeros(3)}
        for name, offset in (("student", 1), ("teacher", 0))
    }
    torch.save({**models, "iteration": 624_999}, folder / "teacher_checkpoint.pth")
    return "--checkpoint", "teacher_checkpoint.pth", *HEADS


def write_deepspeed(folder: Path) -> tuple[str, ...]:
    """With classes of a package that is there while it is written, and gone when it is read."""
    package = types.ModuleType("deepspeed_like")
    for name in ("LossScaler", "ZeroConfig"):
        made = type(name, (), {"__module__": package.__name__})
        setattr(package, name, made)
    sys.modules[package.__name__] = package
    content = {
        "module": read_golden("data2vec_vision_tiny_ft1k").backbone,
        "optimizer": {"loss_scaler": package.LossScaler()},
        "ds_config": package.ZeroConfig(),
        "args": argparse.Namespace(data_path=Path("/data"), lr=4e-3),
        "global_steps": 124_899,
    }
    torch.save(content, folder / "mp_rank_00_model_states.pt")
    del sys.modules[package.__name__]
    return "--checkpoint", "mp_rank_00_model_states.pt", *list_options("data2vec_vision_tiny_ft1k")


def write_compiled(folder: Path) -> tuple[str, ...]:
    state_dict = {f"module._orig_mod.{key}": tensor.bfloat16() for key, tensor in tiny().items()}
    torch.save({"model": state_dict, "optimizer": {}, "epoch": 3}, folder / "last.pth")
    return "--checkpoint", "last.pth", *HEADS


def write_timm(folder: Path) -> tuple[str, ...]:
    import timm

    name = "vit_small_patch14_reg4_dinov2"
    model = build(name, DINOV2[name])
    arguments = {**SMALL, **DINOV2[name]}
    timm.models.save_for_hf(model, folder / "run", model_args=arguments, safe_serialization=True)
    return "--checkpoint", "run"


def write_shards(folder: Path) -> tuple[str, ...]:
    shard(tiny(), folder / "run")
    return "--checkpoint", "run", *HEADS


# what people have: writes it and gives the options; what the card must say of it; its dtype
KINDS: dict[str, tuple[Callable[[Path], tuple[str, ...]], str, torch.dtype]] = {
    "a teacher in chunks": (write_teacher, r"not 'student'.*'backbone\.' taken off.*2 chunk", torch.float32),
    "DeepSpeed's": (write_deepspeed, r"argparse\.Namespace, deepspeed_like\.LossScaler.*\['module'\]", torch.float32),
    "compiled and distributed": (write_compiled, r"'_orig_mod\.', 'module\.' taken off", torch.bfloat16),
    "timm's": (write_timm, "position embedding of the CLS token is folded", torch.float32),
    "in shards": (write_shards, "2 shards, safetensors", torch.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_becomes_a_verified_artifact_by_one_command(kind: str, tmp_path: Path) -> None:
    write, says, dtype = KINDS[kind]
    check_artifact(tmp_path, write(tmp_path), says, dtype)


def test_a_cast_is_asked_for_verified_and_said(tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "tiny.pth")
    options = ("--checkpoint", "tiny.pth", *HEADS, "--save-dtype", "bfloat16")
    check_artifact(tmp_path, options, r"cast: 49 tensors cast from torch\.float32 to torch\.bfloat16", torch.bfloat16)


def test_the_entry_is_the_users_choice(tmp_path: Path) -> None:
    check_artifact(tmp_path, (*write_teacher(tmp_path), "--entry", "student"), r"entry \['student'\] taken")
    restored = load_checkpoint(tmp_path / "artifacts" / "dinov2_custom")
    golden = read_golden("dinov2_tiny_chunked").backbone
    assert same(restored, {key: tensor + 1 for key, tensor in golden.items()})


@pytest.mark.parametrize(
    "name", ["dinov2_tiny_1layer", "dinov2_tiny_reg", "data2vec_vision_tiny", "data2vec_vision_tiny_ade20k"]
)
def test_a_folder_of_transformers_is_verified_as_it_is(name: str, tmp_path: Path) -> None:
    write_artifact(tmp_path, name)
    before = list_files(tmp_path)
    code, output = run(tmp_path, "--checkpoint", "artifact")
    assert code == 0, output
    assert set(read_verdicts(output).values()) == {"consistent with itself"}
    (tmp_path / "disturb.py").unlink()
    assert list_files(tmp_path) == before


# golden model: what to change in the code of its clone, and where that first shows
FAULTS = {
    "dinov2_tiny_reg": ("eps=1e-6", "eps=1e-5", "block.0.norm1"),
    "data2vec_vision_tiny_ft1k": ("self.scale)", "self.scale * 1.01)", "block.0.attention"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_authors_own_code_can_be_the_reference(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    torch.save(golden.backbone, tmp_path / "tiny.pth")
    clone = write_clone(golden.family.name, tmp_path / "clone")
    options = ("--checkpoint", "tiny.pth", *list_options(name), "--original", "clone", "--save-artifacts")
    code, output = run(tmp_path, *options)
    assert code == 0, output
    assert "exact" in read_verdicts(output).values()
    card = json.loads((tmp_path / "artifacts" / left_over(tmp_path)[0] / PARITY_CARD).read_text())
    assert {cell["original"] for cell in card["activations"]} == {"the authors', from the clone clone"}
    old, new, place = FAULTS[name]
    for module in clone.rglob("*.py"):
        module.write_text(module.read_text().replace(old, new))
    code, output = run(tmp_path, *options)
    assert code == 1
    assert f"first at {place}" in output


@pytest.mark.parametrize("form", ["shards", "pytorch_model.bin"])
def test_a_folder_may_have_its_weights_in_any_form_that_transformers_reads(form: str, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path)
    (artifact / PARITY_CARD).unlink()
    tensors = read_tensors(artifact)
    (artifact / WEIGHTS).unlink()
    if form == "shards":
        shard(tensors, artifact)
    else:
        torch.save(tensors, artifact / form)
    code, output = run(tmp_path, "--checkpoint", "artifact", "--attention", "sdpa")
    assert code == 0, output
    assert set(read_verdicts(output).values()) == {"consistent with itself"}


def edit_config(artifact: Path, **changes: Any) -> None:
    content = json.loads((artifact / CONFIG).read_text())
    (artifact / CONFIG).write_text(json.dumps(content | changes))


def test_a_folder_of_the_official_converters_making_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, "data2vec_vision_tiny")
    (artifact / PARITY_CARD).unlink()
    edit_config(artifact, layer_norm_eps=1e-12)
    code, output = run(tmp_path, "--checkpoint", "artifact")
    assert code == 1
    assert "known deviation 'layer-norm-eps-default'" in output


def test_a_folder_is_held_against_its_card(tmp_path: Path) -> None:
    edit_config(write_artifact(tmp_path), layer_norm_eps=1e-5)
    code, output = run(tmp_path, "--checkpoint", "artifact")
    assert code == 1
    assert "its files are not those that parity.json lists" in output


def test_a_folder_without_an_image_processor_is_verified_without_the_photo(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path)
    (artifact / PARITY_CARD).unlink()
    (artifact / PREPROCESSOR).unlink()
    code, output = run(tmp_path, "--checkpoint", "artifact")
    assert code == 0, output
    assert "photo" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--checkpoint", "artifact", "--save-artifacts"), "is verified as it is; --save-artifacts"),
        (("--checkpoint", "artifact", "--save-dtype", "float16"), "is verified as it is; --save-dtype"),
        (("--checkpoint", "artifact", "--image-size", "42"), "is verified as it is; --image-size"),
        (("--checkpoint", "artifact", "--weights", "pretrained"), "both say what to verify"),
        (("--mirror", "http://127.0.0.1:1"), "--weights pretrained"),
        (("--checkpoint=artifact", "--mirror=http://127.0.0.1:1"), "--mirror: nothing is downloaded for a checkpoint"),
        (("--original", "timm"), "--original timm: only for a checkpoint of one's own.\nThe official files are the"),
        (
            ("--weights", "pretrained", "--mirror", "a.example"),
            "--mirror a.example: not a URL that begins with http://",
        ),
        (("--entry", "teacher"), "--entry: only for a checkpoint of one's own"),
        (("--save-dtype", "int8"), "--save-dtype"),
        (("--weights", "random"), "--weights"),
        (("--original", "nowhere"), "--original nowhere: no such folder"),
    ],
)
def test_what_does_not_go_together_is_one_clear_error(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_artifact(tmp_path)
    assert_refused(tmp_path, options, message)


@pytest.mark.parametrize(("separator", "code", "message"), [("=", 0, "1 passed"), (" ", 4, "--checkpoint=PATH")])
def test_a_file_may_lie_anywhere(separator: str, code: int, message: str, tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "tiny.pth")
    options = [*f"--checkpoint{separator}{tmp_path / 'tiny.pth'} --attention=sdpa".split(), *HEADS]
    arguments = ["-p", "no:cacheprovider", "-k", "test_parity", *options]
    ended, output = run_pytest(arguments, ROOT, build_environment(ROOT))
    assert ended == code, output
    assert message in output


def test_other_projects_keep_their_options(tmp_path: Path) -> None:
    """The plugin is installed with the package, and loaded wherever pytest is started."""
    option = 'def pytest_addoption(parser):\n    parser.addoption("--labels")\n'
    (tmp_path / "conftest.py").write_text(option)
    (tmp_path / "test_theirs.py").write_text('def test(pytestconfig):\n    assert pytestconfig.option.labels == "a"\n')
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--labels", "a"]
    environment = build_environment(ROOT)
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "vision-parity" in result.stdout


def test_what_transformers_has_no_place_for_is_kept_and_comes_back(tmp_path: Path) -> None:
    artifact, golden = write_artifact(tmp_path, "data2vec_vision_tiny"), read_golden("data2vec_vision_tiny")
    assert (artifact / LEFT_OUT).exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is gone
        assert same(load_checkpoint(artifact), golden.backbone)
    (file,) = conversion.restore_checkpoint(artifact, tmp_path / "back.pth")
    assert same(torch.load(file)["model"], golden.backbone)
    assert type(load_model(artifact)).__name__ == "Data2VecVisionModel"
