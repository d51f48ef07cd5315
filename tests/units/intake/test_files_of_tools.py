"""Files that training tools write themselves, here and now; where a tool is not installed, its tests are skipped."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader

import conversion
from conversion.errors import CheckpointError
from tests.support.checkpoint_files import read, same
from tests.support.small_dinov2 import (
    AVERAGED,
    MOMENTUM,
    RAW,
    STEPS,
    TOLD,
    Classifier,
    build_optimizer,
    draw_small,
    is_near,
    move,
)
from tests.support.verified import is_verified

IN_DEV = "pip install -e '.[dev]' brings it"


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
@pytest.mark.parametrize("is_averaged", [False, True])
def test_lightnings_backbone_is_taken(is_averaged: bool, tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning", reason=IN_DEV)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"rate": 1.0})
            self.model = Classifier()

        def training_step(self, *batch: object) -> Tensor:  # noqa: ARG002 (as Lightning calls it)
            return self.model.compute_loss()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return build_optimizer(self)

    saving = lightning.callbacks.ModelCheckpoint(save_last="link")
    averaging = lightning.callbacks.WeightAveraging(avg_fn=get_ema_avg_fn(MOMENTUM))
    lightning.Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        accelerator="cpu",
        logger=lightning.loggers.CSVLogger(tmp_path),
        callbacks=[saving, *([averaging] if is_averaged else [])],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Module(), DataLoader(torch.zeros(STEPS, 1)))
    folder = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    with pytest.raises(CheckpointError, match="there are some in its subfolders") as raised:
        read(tmp_path)
    assert raised.value.hint.endswith(f"vision-parity inspect {folder}")
    checkpoint, steps, said = read(folder)
    assert is_near(checkpoint.state_dict, move(AVERAGED if is_averaged else RAW))
    assert steps["strip"] == "'model.' taken off keys"
    assert steps["select"].endswith("left out, outside of it: 'head.' (2 tensors, as head.weight)")
    assert is_verified(folder, TOLD)
    if is_averaged:
        assert "not 'current_model_state', which holds the raw weights: Lightning's WeightAveraging" in said[0]
        raw, _, _ = read(folder, "current_model_state")
        assert is_near(raw.state_dict, move(RAW))


@pytest.fixture
def accelerator() -> Iterator[Any]:
    """Accelerate's, on the CPU; its state is the process's own, and taken back."""
    accelerate = pytest.importorskip("accelerate", reason=IN_DEV)
    yield accelerate.Accelerator(cpu=True)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


@pytest.mark.parametrize("is_safe", [True, False])
def test_accelerates_state_is_taken(accelerator: Any, is_safe: bool, tmp_path: Path) -> None:
    model = Classifier().backbone
    optimizer = build_optimizer(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    accelerator.prepare(model, optimizer, scheduler, DataLoader(torch.zeros(STEPS, 1), shuffle=True))
    accelerator.save_state(str(tmp_path), safe_serialization=is_safe)
    assert {"optimizer.bin", "scheduler.bin", "random_states_0.pkl"} <= {path.name for path in tmp_path.iterdir()}
    checkpoint, steps, said = read(tmp_path)
    assert same(checkpoint.state_dict, draw_small())
    assert [path.name for path in checkpoint.files] == ["model.safetensors" if is_safe else "pytorch_model.bin"]
    assert steps.keys() == {"open"}
    assert said == []
    assert is_verified(tmp_path, TOLD)


def test_each_of_several_models_of_accelerates_is_named(accelerator: Any, tmp_path: Path) -> None:
    accelerator.prepare(Classifier().backbone, nn.Linear(2, 2))
    accelerator.save_state(str(tmp_path))
    with pytest.raises(CheckpointError, match="several checkpoints in it") as raised:
        read(tmp_path)
    assert raised.value.problems == ("model.safetensors", "model_1.safetensors")
    assert same(read(tmp_path / "model.safetensors")[0].state_dict, draw_small())


@pytest.mark.parametrize("is_safe", [True, False])
def test_accelerates_shards_are_put_together(accelerator: Any, is_safe: bool, tmp_path: Path) -> None:
    model = accelerator.prepare(Classifier().backbone)
    accelerator.save_model(model, str(tmp_path), max_shard_size="20KB", safe_serialization=is_safe)
    checkpoint, _, _ = read(tmp_path)
    assert len(checkpoint.files) > 1
    assert same(checkpoint.state_dict, draw_small())


def write_base(folder: Path) -> Path:
    """The small model, converted."""
    with warnings.catch_warnings(action="ignore"):
        return conversion.save_artifact(conversion.convert(draw_small(), **TOLD), folder)


def load_base(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder)


def test_accelerates_state_of_a_model_of_transformers_is_read_by_its_config(accelerator: Any, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    accelerator.prepare(load_base(base))
    accelerator.save_state(str(tmp_path / "state"))
    with pytest.raises(CheckpointError, match=r"without a config.json that names its type.\nCopy its config.json"):
        read(tmp_path / "state")
    shutil.copy(base / "config.json", tmp_path / "state")
    assert same(read(tmp_path / "state")[0].state_dict, draw_small())


def adapt(model: Any, *names: str) -> Any:
    """The model with LoRA on these layers, as if they were trained."""
    peft = pytest.importorskip("peft", reason=IN_DEV)
    found = [name for name in names if any(key.endswith(f".{name}") for key, _ in model.named_modules())]
    return peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=found, init_lora_weights=False))


PROJECTIONS = ("q_proj", "v_proj", "query", "value")  # in transformers 5, and 4


def test_adapters_of_a_model_of_transformers_are_merged_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = adapt(load_base(write_base(tmp_path / "base")), *PROJECTIONS)
    model.save_pretrained(tmp_path / "adapters")
    torch.save(model.state_dict(), tmp_path / "all.pth")
    for path in (tmp_path / "adapters", tmp_path / "all.pth"):
        with pytest.raises(CheckpointError, match=r"adapters of PEFT .* not merged") as raised:
            conversion.convert(read(path)[0].state_dict, **TOLD)
        command = raised.value.hint.partition("give the folder: ")[2].removesuffix(".")
    exec(command, {"model": model})
    merged, _, _ = read(tmp_path / "merged")
    assert merged.state_dict.keys() == draw_small().keys()
    assert not same(merged.state_dict, draw_small())
    assert is_verified(tmp_path / "merged", TOLD)


def test_adapters_of_an_original_are_merged_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = adapt(Classifier().backbone, "qkv")
    model.save_pretrained(tmp_path / "adapters")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "all.pth")
    for path in (tmp_path / "adapters", tmp_path / "all.pth"):
        with pytest.raises(CheckpointError, match=r"adapters of PEFT .* not merged") as raised:
            conversion.convert(read(path)[0].state_dict, **TOLD)
        command = raised.value.hint.partition("where it was trained: ")[2].removesuffix(".")
    exec(command, {"model": model, "torch": torch})
    merged, _, _ = read(tmp_path / "merged.pth")
    assert same(merged.state_dict, dict(model.get_base_model().state_dict()))
    assert not same(merged.state_dict, draw_small())
    assert is_verified(tmp_path / "merged.pth", TOLD)


def test_a_folder_that_adapters_lie_in_is_another_model_where_peft_is(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapt(load_base(base), *PROJECTIONS).save_pretrained(base)
    assert any("lora" in name for name, _ in load_base(base).named_parameters())
    with pytest.raises(CheckpointError, match=r"PEFT's adapters lie beside the model.*\n.*move adapter_config.json"):
        read(base)
    (base / "adapter_config.json").rename(tmp_path / "adapter_config.json")
    assert same(read(base)[0].state_dict, draw_small())
