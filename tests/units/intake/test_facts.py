"""A training's config.yaml beside a checkpoint is another run's where it and the tensors contradict each other."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import conversion
from conversion.cli.app import main
from conversion.errors import CheckpointError
from conversion.families.base import Spec, load_family
from conversion.intake import training_config
from conversion.intake.checkpoint import read_checkpoint
from conversion.intake.synthetic import draw_state_dict
from tests.support.checkpoint_files import same
from tests.support.switched import ALL_OFF, GATED, PLAIN, WITH_REGISTERS

# of the authors' default configuration, but for the architecture and the patch
STUDENT: dict[str, Any] = {
    "arch": "vit_tiny", "patch_size": 14, "drop_path_rate": 0.3, "layerscale": 1.0e-05, "drop_path_uniform": True,
    "pretrained_weights": "", "ffn_layer": "mlp", "block_chunks": 0, "qkv_bias": True, "proj_bias": True,
    "ffn_bias": True, "num_register_tokens": 0, "interpolate_antialias": False, "interpolate_offset": 0.1,
}  # fmt: skip
OFF: dict[str, Any] = {"qkv_bias": False, "proj_bias": False, "ffn_bias": False, "layerscale": 0}


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sizes in {"vit_tiny": (128, 2, 2), "vit_deeper": (128, 5, 2), "vit_wider": (192, 2, 2)}.items():
        monkeypatch.setitem(training_config.ARCHITECTURES, name, sizes)  # type: ignore[arg-type]


def leave_run(folder: Path, spec: Spec, num_chunks: int = 0, text: str = "", **student: Any) -> Path:
    """A training's output as the authors' code lays it out: the teacher of this spec, and a config beside it."""
    place = folder / "eval" / "training_1249"
    place.mkdir(parents=True)
    weights = {f"backbone.{key}": tensor for key, tensor in draw_state_dict(load_family("dinov2"), spec, "", 0).items()}
    if num_chunks:
        size = spec.depth // num_chunks
        weights = {_put_in_chunk(key, size): tensor for key, tensor in weights.items()}
    torch.save({"teacher": weights}, place / "teacher.pth")
    config = {"student": {**STUDENT, **student}, "crops": {"global_crops_size": 224, "local_crops_size": 98}}
    (folder / "config.yaml").write_text(text or yaml.safe_dump(config))
    return place / "teacher.pth"


def _put_in_chunk(key: str, size: int) -> str:
    before, blocks, after = key.partition("blocks.")
    index, _, rest = after.partition(".")
    return f"{before}blocks.{int(index) // size}.{after}" if blocks and rest else key


# the model, and what its config says of it
AGREEING: dict[str, tuple[Spec, dict[str, Any]]] = {
    "the authors' defaults": (PLAIN, {}),
    "registers": (WITH_REGISTERS, {"num_register_tokens": 4}),
    "gated": (GATED, {"ffn_layer": "swiglufused"}),
    "gated, by its other name": (GATED, {"ffn_layer": "swiglu"}),
    "all off": (replace(PLAIN, **ALL_OFF), OFF),
    "all off by null": (replace(PLAIN, **ALL_OFF), dict.fromkeys(OFF)),
    "layer scale as text": (PLAIN, {"layerscale": "1e-5"}),
    "not resolved": (replace(PLAIN, **ALL_OFF), dict.fromkeys(OFF, "${other.place}")),
    "absent": (replace(PLAIN, **ALL_OFF), {}),
    "blocks that were counted through": (PLAIN, {"block_chunks": 2}),
    "images of another size": (replace(PLAIN, image_size=98), {}),
}


@pytest.mark.parametrize("name", AGREEING)
def test_a_config_that_says_what_the_tensors_say_goes_with_them(name: str, tmp_path: Path) -> None:
    spec, student = AGREEING[name]
    path = leave_run(tmp_path, spec, **student)
    if name == "absent":
        config = {"student": {"arch": "vit_tiny", "patch_size": 14}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with warnings.catch_warnings(action="ignore"):
        out = conversion.convert(conversion.load_checkpoint(path))
    assert out.told["num_attention_heads"].by == "config.yaml of the training run"
    assert {name: getattr(out.spec, name) for name in ALL_OFF} == {name: getattr(spec, name) for name in ALL_OFF}


@pytest.mark.parametrize("num_chunks", [2, 3, 5])
def test_chunks_are_counted_as_training_counts_them(num_chunks: int, tmp_path: Path) -> None:
    """Of five blocks, two chunks are three: of two blocks, two, and one."""
    spec = replace(PLAIN, depth=5)
    path = leave_run(tmp_path, spec, num_chunks, arch="vit_deeper", block_chunks=num_chunks)
    assert same(conversion.load_checkpoint(path), draw_state_dict(load_family("dinov2"), spec, "", 0))


# the model, its chunks, what the config says of it instead, and what is said
CONTRADICTING: dict[str, tuple[Spec, int, dict[str, Any], str]] = {
    "width": (PLAIN, 0, {"arch": "vit_wider"}, "student.arch (vit_wider), embed_dim: 192 in config.yaml, 128"),
    "depth": (PLAIN, 0, {"arch": "vit_deeper"}, "student.arch (vit_deeper), depth: 5 in config.yaml, 2"),
    "patch": (PLAIN, 0, {"patch_size": 16}, "student.patch_size: 16 in config.yaml, 14"),
    "registers": (PLAIN, 0, {"num_register_tokens": 4}, "student.num_register_tokens: 4 in config.yaml, 0"),
    "qkv bias": (PLAIN, 0, {"qkv_bias": False}, "student.qkv_bias: false in config.yaml, true"),
    "no qkv bias": (replace(PLAIN, qkv_bias=False), 0, {}, "student.qkv_bias: true in config.yaml, false"),
    "proj bias": (PLAIN, 0, {"proj_bias": None}, "student.proj_bias (null): false in config.yaml, true"),
    "no proj bias": (replace(PLAIN, proj_bias=False), 0, {}, "student.proj_bias: true in config.yaml, false"),
    "ffn bias": (GATED, 0, {"ffn_layer": "swiglu", "ffn_bias": 0}, "student.ffn_bias (0): false in config.yaml, true"),
    "no ffn bias": (replace(PLAIN, ffn_bias=False), 0, {}, "student.ffn_bias: true in config.yaml, false"),
    "layer scale": (PLAIN, 0, {"layerscale": 0.0}, "student.layerscale (0.0): false in config.yaml, true"),
    "no layer scale": (
        replace(PLAIN, layer_scale=False), 0, {}, "student.layerscale (1e-05): true in config.yaml, false"
    ),
    "plain": (PLAIN, 0, {"ffn_layer": "swiglufused"}, "(swiglufused), feed-forward: gated in config.yaml, plain"),
    "gated": (GATED, 0, {}, "student.ffn_layer (mlp), feed-forward: plain in config.yaml, gated"),
    "no chunks": (PLAIN, 2, {}, "student.block_chunks (0), chunks of 2 blocks: 0 in config.yaml, 2"),
    "other chunks": (PLAIN, 2, {"block_chunks": 1}, "block_chunks (1), chunks of 2 blocks: 1 in config.yaml, 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTING)
def test_a_config_of_another_run_is_refused_with_what_differs(name: str, tmp_path: Path) -> None:
    spec, num_chunks, student, says = CONTRADICTING[name]
    path = leave_run(tmp_path, spec, num_chunks, **student)
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    assert raised.value.problems[0].endswith(f"{says} by the tensors")
    assert len(raised.value.problems) == 1
    assert str(tmp_path / "config.yaml") in raised.value.hint


def test_the_way_out_works_as_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = leave_run(tmp_path, replace(PLAIN, qkv_bias=False))
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(path)]) != 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "config.yaml describes another model. - student.qkv_bias: true in config.yaml, false by the tensors" in said
    assert f"If {tmp_path / 'config.yaml'} is another checkpoint's, move it away, and give these as they were" in said
    assert "--num-attention-heads, --interpolate-offset, --interpolate-antialias." in said
    (tmp_path / "config.yaml").rename(tmp_path / "elsewhere.yaml")
    options = ["--num-attention-heads", "2", "--interpolate-offset", "0.1", "--interpolate-antialias", "false"]
    assert main(["convert", str(path), *options]) == 0
