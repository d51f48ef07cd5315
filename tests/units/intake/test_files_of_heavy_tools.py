"""Files that heavy training tools write, in processes of their own; where a tool is not installed, they are skipped."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import CheckpointError
from conversion.intake.opening import open_file
from conversion.intake.unpickling import read_attribute
from tests.support.checkpoint_files import read, same
from tests.support.processes import ROOT, run_ranks
from tests.support.small_dinov2 import AVERAGED, RAW, TOLD, draw_small, is_near, move
from tests.support.verified import is_verified

RECORDED = ROOT / "fixtures" / "tools" / "mmengine_0.10.7.pth"
NOT_IN_DEV = "it is heavy: pip install"


def run_module(module: str, folder: Path) -> None:
    """Run a module of ``tests.support`` in a process of its own: what tools set up for a process stays there."""
    command = [sys.executable, "-m", f"tests.support.{module}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("written", ["recorded", "now"])
def test_mmengines_average_is_what_lies_under_state_dict(written: str, tmp_path: Path) -> None:
    path = RECORDED
    if written == "now":
        pytest.importorskip("mmengine.runner", reason=f"{NOT_IN_DEV} mmengine")
        run_module("mmengine_run", tmp_path)
        path = tmp_path / "epoch_1.pth"
    checkpoint, steps, said = read(path)
    assert is_near(checkpoint.state_dict, move(AVERAGED))
    assert "not 'ema_state_dict', which holds the raw weights: mmengine" in said[0]
    assert steps["tell"] == f"{path.name} tells the class names; left out, no place for it: palette"
    assert "mmengine.logging.history_buffer.HistoryBuffer" in steps["open"]
    raw, _, _ = read(path, "ema_state_dict")
    assert is_near(raw.state_dict, move(RAW))
    with warnings.catch_warnings(action="ignore"):
        out = conversion.convert(checkpoint.state_dict, **TOLD)
    assert "the file names 7 classes, the model has none: its names are left out" in out.notes
    assert is_verified(path, TOLD)


def list_tensors(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The parameters of a module that was pickled, of whose class there is a stand-in."""
    for name, tensor in read_attribute(module, "_parameters").items():
        if isinstance(tensor, Tensor):
            yield prefix + name, tensor.detach()
    for name, inner in read_attribute(module, "_modules").items():
        yield from list_tensors(inner, f"{prefix}{name}.")


def test_lightly_trains_teacher_is_taken_and_told_by_its_pickled_model(tmp_path: Path) -> None:
    pytest.importorskip("lightly_train", reason=f"{NOT_IN_DEV} lightly-train")
    folder = tmp_path / "out"
    run_module("lightly_train_run", folder)
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint, steps, _ = read(path)
    section = open_file(path).content["lightly_train"]
    in_a_chunk = dict(list_tensors(section["models"]["model"]))
    pickled = {key.replace("blocks.0.", "blocks.", 1): tensor for key, tensor in in_a_chunk.items()}
    assert same(checkpoint.state_dict, pickled)
    assert "not 'student_embedding_model.wrapped_model._model.', which also holds a model" in steps["select"]
    assert "left out, outside of it: 'teacher_projection_head.' (" in steps["select"]
    assert checkpoint.known == {
        "num_attention_heads": 2,
        "interpolate_offset": 0.1,
        "interpolate_antialias": False,
        "layer_norm_eps": 1e-6,
        "image_mean": (0.4, 0.5, 0.6),
        "image_std": (0.1, 0.2, 0.3),
    }
    assert is_verified(path, {})
    exported, _, _ = read(folder / "exported_models")
    assert same(exported.state_dict, pickled)


@pytest.fixture(scope="module")
def deepspeed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of DeepSpeed write."""
    pytest.importorskip("deepspeed", reason=f"{NOT_IN_DEV} deepspeed")
    folder = tmp_path_factory.mktemp("deepspeed")
    run_ranks(2, "tests.support.deepspeed_run", str(folder))
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1])
def test_deepspeeds_model_is_taken(deepspeed_run: Path, stage: int, precision: str) -> None:
    folder = deepspeed_run / f"zero_{stage}_{precision}"
    checkpoint, steps, _ = read(folder)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert same(checkpoint.state_dict, {key: tensor.to(dtype) for key, tensor in draw_small().items()})
    optimizer = sorted(path.name for path in folder.rglob("*_optim_states.pt"))
    assert len(optimizer) == (2 if stage else 0)
    assert all(name in steps["choose"] for name in optimizer)
    assert is_verified(folder, TOLD)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_command_for_zero_3_puts_the_model_together(deepspeed_run: Path, precision: str) -> None:
    folder = deepspeed_run / f"zero_3_{precision}"
    with pytest.raises(CheckpointError, match="DeepSpeed's ZeRO 3") as raised:
        read(folder)
    command = raised.value.hint.partition(f"{folder / 'out'}: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, capture_output=True, timeout=300)
    rounded = {key: tensor.bfloat16() if precision == "bf16" else tensor for key, tensor in draw_small().items()}
    found = read(folder / "out")[0].state_dict
    assert same(dict(found), {key: tensor.float() for key, tensor in rounded.items()})
