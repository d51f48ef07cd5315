"""A folder with more in it than a model: what ``from_pretrained`` takes is taken, and what is not is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import conversion
from conversion.artifact.weights import WEIGHTS, read_tensors
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.transformers_folder import is_transformers_folder
from conversion.state_dicts.folder import CONFIG
from tests.support.checkpoint_files import same, shard
from tests.support.golden import convert, read_golden, tiny
from tests.support.timm_models import DINOV2, SMALL, build
from tests.support.training_folders import STEP, write_lightning, write_zero

OTHER = {"x": torch.ones(1)}
NOT_TAKEN = "as from_pretrained does; not taken, though a model may be in it:"


def find_step(path: Path, name: str = "choose") -> str:
    """What a step of intake did; empty if there was none of this name."""
    return next((step.did for step in read_checkpoint(path).steps if step.name == name), "")


# who leaves such a folder: the files beside model.safetensors; those of them that may hold a model
MORE_FILES: dict[str, tuple[list[str], list[str]]] = {
    "rad-dino on the Hub": (
        ["backbone_compatible.safetensors", "dino_head.safetensors"],
        ["backbone_compatible.safetensors", "dino_head.safetensors"],
    ),
    "Trainer on two GPUs": (
        ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "rng_state_1.pth"],
        [],
    ),
    "accelerate's save_state": (
        ["optimizer.bin", "optimizer_1.bin", "scheduler.bin", "sampler.bin", "sampler_1.bin", "random_states_0.pkl"],
        [],
    ),
    "a variant": (["model.fp16.safetensors"], ["model.fp16.safetensors"]),
    "all frameworks": (["flax_model.msgpack", "tf_model.h5", "pytorch_model.bin"],) * 2,
    "an export": (["model.onnx", "notes.txt"], ["model.onnx"]),
}


@pytest.mark.parametrize("who", MORE_FILES)
def test_what_from_pretrained_takes_is_taken(who: str, tmp_path: Path) -> None:
    names, named = MORE_FILES[who]
    conversion.save_artifact(convert("dinov2_tiny"), tmp_path / "model")
    for name in names:
        write = save_file if name.endswith("safetensors") else torch.save
        write(OTHER, tmp_path / "model" / name)
    assert same(load_checkpoint(tmp_path / "model"), tiny())
    said = f"{WEIGHTS} taken, {NOT_TAKEN} {', '.join(sorted(named))}"
    assert find_step(tmp_path / "model") == (said if named else "")
    assert [file.name for file in read_checkpoint(tmp_path / "model").files] == [WEIGHTS]


@pytest.mark.parametrize("given", ["both", "shards alone", "shards and pickled"])
def test_one_file_comes_before_shards_and_pickled_ones_last(given: str, tmp_path: Path) -> None:
    """As transformers looks for them."""
    from transformers import AutoModel

    out = convert("dinov2_tiny")
    conversion.save_artifact(out, tmp_path / "model")
    others = {key: tensor + 1 for key, tensor in out.state_dict.items()}
    if given == "shards and pickled":
        torch.save(others, tmp_path / "model" / "pytorch_model.bin")
    shard(read_tensors(tmp_path / "model") if given != "both" else others, tmp_path / "model")
    if given != "both":
        (tmp_path / "model" / WEIGHTS).unlink()
    loaded = AutoModel.from_pretrained(tmp_path / "model").layernorm.weight
    assert torch.equal(loaded, out.state_dict["layernorm.weight"])
    assert same(load_checkpoint(tmp_path / "model"), tiny())
    taken = "model-00001" if given == "shards alone" else WEIGHTS
    assert (taken in find_step(tmp_path / "model")) == (given != "shards alone")


def test_a_timm_folder_has_what_timm_reads(tmp_path: Path) -> None:
    """Others than transformers' own lie there too, as ``open_clip_pytorch_model.bin``."""
    import timm

    name = "vit_small_patch14_reg4_dinov2"
    arguments = {**SMALL, **DINOV2[name]}
    model = build(name, DINOV2[name])
    timm.models.save_for_hf(model, tmp_path / "run", model_args=arguments, safe_serialization="both")
    torch.save(OTHER, tmp_path / "run" / "open_clip_pytorch_model.bin")
    read = read_checkpoint(tmp_path / "run")
    assert read.timm is not None
    assert f"{NOT_TAKEN} open_clip_pytorch_model.bin, pytorch_model.bin" in find_step(tmp_path / "run")


@pytest.mark.parametrize("model_type", ["vit", "a_training_code_s_own", 3, ["dinov2"], None])
def test_an_original_checkpoint_is_read_whatever_a_config_calls_it(model_type: object, tmp_path: Path) -> None:
    save_file(tiny(), tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"model_type": model_type, "lr": 0.1}))
    assert not is_transformers_folder(tmp_path)
    assert same(load_checkpoint(tmp_path), tiny())
    assert same(load_checkpoint(tmp_path / WEIGHTS), tiny())


def test_a_linear_head_is_read_beside_any_config(tmp_path: Path) -> None:
    head = read_golden("dinov2_tiny_1layer").linear_head
    assert head
    for model_type in ("dinov2", "beit"):
        torch.save(head, tmp_path / "head.pth")
        (tmp_path / CONFIG).write_text(json.dumps({"model_type": model_type}))
        assert same(load_checkpoint(tmp_path / "head.pth"), head)


def test_lightnings_folder_stands_for_its_checkpoint(tmp_path: Path) -> None:
    write_lightning(tmp_path, tiny(), "last.ckpt")
    (tmp_path / "hparams.yaml").write_text("lr: 0.1")
    assert same(load_checkpoint(tmp_path), tiny())


def test_a_link_to_the_last_checkpoint_is_no_second_one(tmp_path: Path) -> None:
    """As Lightning leaves it with ``save_last="link"``."""
    write_lightning(tmp_path, tiny(), "epoch=3-step=100.ckpt")
    (tmp_path / "last.ckpt").symlink_to("epoch=3-step=100.ckpt")
    assert same(load_checkpoint(tmp_path), tiny())
    assert [file.name for file in read_checkpoint(tmp_path).files] == ["epoch=3-step=100.ckpt"]
    assert same(load_checkpoint(tmp_path / "last.ckpt"), tiny())


GIVEN: dict[str, Callable[[Path], Path]] = {
    "the top": lambda top: top,
    "the step": lambda top: top / STEP,
    "the file": lambda top: top / STEP / "mp_rank_00_model_states.pt",
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("precision", ["", "bf16_"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_deepspeeds_model_is_taken_and_its_optimizer_named(
    stage: int, precision: str, given: str, tmp_path: Path
) -> None:
    write_zero(tmp_path, {f"module.{key}": tensor for key, tensor in tiny().items()}, stage, step="global_step50")
    write_zero(tmp_path, tiny(), stage, precision=precision)
    path = GIVEN[given](tmp_path)
    assert same(load_checkpoint(path), tiny())
    optimizer = [f"{precision}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2 if stage else 0)]
    said = find_step(path)
    assert (f"the step {STEP}, which latest names; not global_step50" in said) == (given == "the top")
    assert any("not global_step50" in line for line in read_checkpoint(path).said) == (given == "the top")
    assert ("mp_rank_00_model_states.pt taken" in said) == (given != "the file")
    assert (f"not taken: {', '.join(optimizer)}, of the optimizer" in said) == bool(stage and given != "the file")


def test_what_zero_to_fp32_puts_together_is_taken(tmp_path: Path) -> None:
    write_zero(tmp_path, tiny(), 3)
    (tmp_path / "out").mkdir()
    torch.save(tiny(), tmp_path / "out" / "pytorch_model.bin")
    assert same(load_checkpoint(tmp_path / "out"), tiny())
    torch.save(tiny(), tmp_path / "pytorch_model.bin")  # where older versions of it write
    assert same(load_checkpoint(tmp_path), tiny())


@pytest.mark.parametrize("latest", ["", ".", "..", "global_step7", "/", "a/b", "\0", "x" * 10_000])
def test_latest_leads_nowhere_else(latest: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_zero(run, tiny(), 2)
    write_zero(tmp_path, tiny(), 2)
    (run / "latest").write_text(latest)
    with pytest.raises(conversion.ConversionError, match="there are some in its subfolders"):
        load_checkpoint(run)
