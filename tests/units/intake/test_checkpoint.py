"""Intake: what people have comes out as the same clean state dict, and the record says what was done."""

import argparse
import collections
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import conversion
from conversion.errors import CheckpointError
from conversion.families.base import find_dropped
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.steps import PREFIXES, strip_prefixes, unchunk_blocks
from conversion.intake.unwrapping import ENTRIES, unwrap
from conversion.parity.metrics import is_bit_equal
from tests.support.checkpoint_files import same, save, shard, steps
from tests.support.golden import NUM_HEADS, read_golden, tiny

TRAINING_HEAD = {"dino_head.last_layer.weight": torch.zeros(2)}


def test_a_flat_file_is_read_lazily(tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "tiny.pth")
    assert same(load_checkpoint(path), tiny())
    loaded = load_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert not any(tensor.any() for tensor in loaded.values())  # memory-mapped: what was not read yet is gone


def test_a_file_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    torch.save(tiny(), tmp_path / "zip.safetensors")
    save_file(tiny(), tmp_path / "tensors.pt")
    formats = {path.name: steps(path)["open"].split(",")[0] for path in tmp_path.iterdir()}
    assert formats == {
        "old.bin": "torch.save before 1.6",
        "zip.safetensors": "torch.save",
        "tensors.pt": "safetensors",
    }
    assert all(same(load_checkpoint(path), tiny()) for path in tmp_path.iterdir())


@pytest.mark.parametrize("given", ["", "model.safetensors.index.json"])
def test_shards_are_read_through_their_index(given: str, tmp_path: Path) -> None:
    path = shard(tiny(), tmp_path / "run") / given
    assert same(load_checkpoint(path), tiny())
    assert steps(path) == {"open": "2 shards, safetensors, memory-mapped"}
    assert len(read_checkpoint(path).files) == 2


def test_a_folder_with_one_checkpoint_in_it_stands_for_it(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "teacher_checkpoint.pth")
    (tmp_path / "config.yaml").write_text("train: {}")
    assert same(load_checkpoint(tmp_path), tiny())


def test_a_teacher_checkpoint_comes_out_clean(tmp_path: Path) -> None:
    golden = read_golden("dinov2_tiny_chunked")
    teacher = {f"backbone.{key}": tensor for key, tensor in golden.recorded.items()} | TRAINING_HEAD
    path = save({"teacher": teacher, "iteration": 3}, tmp_path / "teacher_checkpoint.pth")
    assert same(load_checkpoint(path), golden.backbone | TRAINING_HEAD)
    assert steps(path) == {
        "open": "torch.save, memory-mapped",
        "unwrap": "entry ['teacher'] taken; left out, no part of the model: 'iteration'",
        "strip": "'backbone.' taken off keys",
        "unchunk": "blocks counted through 2 chunk(s)",
    }


def test_blocks_are_counted_through_their_chunks() -> None:
    golden = read_golden("dinov2_tiny_chunked")
    assert "blocks.1.2.norm1.weight" in golden.recorded
    unchunked, _ = unchunk_blocks(golden.recorded)
    assert {key.split(".")[1] for key in unchunked if key.startswith("blocks.")} == {"0", "1", "2", "3"}
    assert is_bit_equal(unchunked["blocks.2.norm1.weight"], golden.recorded["blocks.1.2.norm1.weight"])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(ENTRIES), max_size=4),
    st.lists(st.sampled_from(PREFIXES), max_size=4),
    st.lists(st.sampled_from(["_orig_mod.", "_fsdp_wrapped_module."]), max_size=2),
    st.booleans(),
)
def test_any_stack_of_wrappers_and_prefixes_is_undone(
    entries: list[str], prefixes: list[str], wrappers: list[str], chunked: bool
) -> None:
    golden = read_golden("dinov2_tiny_chunked")
    state_dict = golden.recorded if chunked else golden.backbone
    inner = {key.replace("blocks.", f"blocks.{''.join(wrappers)}", 1): tensor for key, tensor in state_dict.items()}
    content: object = {"".join(prefixes) + key: tensor for key, tensor in inner.items()}
    for entry in entries:
        content = {entry: content, "epoch": 1, "optimizer": {"state": {}}}
    stripped, _ = strip_prefixes(unwrap(content).state_dict, find_dropped)
    assert same(unchunk_blocks(stripped)[0], golden.backbone)


def test_prefixes_that_only_some_keys_carry_stay() -> None:
    mixed = {"backbone.a": torch.zeros(1), "decode_head.b": torch.zeros(1)}
    assert strip_prefixes(mixed, find_dropped) == (mixed, "")


def test_a_linear_head_beside_a_backbone_does_not_keep_its_prefix_on_it() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    whole = {f"backbone.{key}": tensor for key, tensor in golden.backbone.items()}
    whole |= {f"linear_head.{key}": tensor for key, tensor in golden.linear_head.items()}
    assert same(strip_prefixes(whole, find_dropped)[0], golden.state_dict)


def test_of_several_models_the_averaged_one_is_taken_and_it_is_said(tmp_path: Path) -> None:
    other = {key: tensor + 1 for key, tensor in tiny().items()}
    for taken, left in (("teacher", "student"), ("model_ema", "model"), ("state_dict_ema", "state_dict")):
        path = save({left: other, taken: tiny(), "epoch": 1}, tmp_path / "run.pth")
        with pytest.warns(UserWarning, match=rf"\['{taken}'\] taken; not '{left}', .*--entry"):
            assert same(load_checkpoint(path), tiny())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same(load_checkpoint(path, entry=left), other)


def test_models_side_by_side_in_one_state_dict_are_told_apart(tmp_path: Path) -> None:
    flat = {f"student.backbone.{key}": tensor + 1 for key, tensor in tiny().items()}
    flat |= {f"teacher.backbone.{key}": tensor for key, tensor in tiny().items()}
    flat |= {"teacher.dino_head.last_layer.weight": torch.zeros(2), "dino_loss.center": torch.zeros(1, 3)}
    path = save({"model": flat, "iteration": 7}, tmp_path / "model_0000007.pth")
    with pytest.warns(UserWarning, match="'student', which also holds a model"):
        assert same(load_checkpoint(path), tiny() | TRAINING_HEAD)
    assert same(load_checkpoint(path, entry="student"), {key: tensor + 1 for key, tensor in tiny().items()})


def test_models_under_one_wrapper_are_told_apart(tmp_path: Path) -> None:
    flat = {f"module._orig_mod.{name}.{key}": tensor + offset for name, offset in (("student", 1), ("teacher", 0))
            for key, tensor in tiny().items()}  # fmt: skip
    path = save({"model": flat}, tmp_path / "last.pth")
    with pytest.warns(UserWarning, match="'student', which also holds a model"):
        assert same(load_checkpoint(path), tiny())


def test_an_entry_is_found_along_dots_and_others_beside_it_are_said(tmp_path: Path) -> None:
    other = {key: tensor + 1 for key, tensor in tiny().items()}
    path = save({"model": {"student": tiny(), "teacher": other}, "teacher": other}, tmp_path / "run.pth")
    assert same(load_checkpoint(path, entry="model.student"), tiny())
    path = save({"teacher": {"model": tiny(), "model_ema": other}}, tmp_path / "run.pth")
    with pytest.warns(UserWarning, match=r"\['teacher'\]\['model_ema'\] taken; not 'model'"):
        assert same(load_checkpoint(path, entry="teacher"), other)
    path = save(
        {"net.enc": torch.zeros(1)} | {f"vit.{key}": tensor for key, tensor in tiny().items()}, tmp_path / "a.pth"
    )
    assert steps(path, entry="vit")["unwrap"] == "entry ['vit'] taken; left out, no model of a known family: 'net.enc'"


def test_an_entry_is_taken_from_shards_too(tmp_path: Path) -> None:
    folder = shard({f"enc.{key}": tensor for key, tensor in tiny().items()}, tmp_path / "run")
    assert same(load_checkpoint(folder, entry="enc"), tiny())
    with pytest.raises(CheckpointError, match="no entry 'nonsense'"):
        load_checkpoint(folder, entry="nonsense")


def test_a_pickle_cannot_put_something_in_the_place_of_a_method(tmp_path: Path) -> None:
    odd = collections.OrderedDict(tiny())
    odd.get = odd.keys = odd.values = 5  # type: ignore[method-assign, assignment]
    assert same(load_checkpoint(save({"model": odd}, tmp_path / "odd.pth")), tiny())


def test_other_numbers_than_ranks_may_stand_behind_the_word(tmp_path: Path) -> None:
    for rank in (8, 16):
        path = save(tiny(), tmp_path / f"lora_rank{rank}.pth")
    assert same(load_checkpoint(path), tiny())


@pytest.mark.parametrize("entry", ["vit", "net.vit"])
def test_an_entry_may_have_any_name_and_be_a_beginning_of_keys(entry: str, tmp_path: Path) -> None:
    path = save({f"{entry}.{key}": tensor for key, tensor in tiny().items()}, tmp_path / "run.pth")
    assert same(load_checkpoint(path, entry=entry), tiny())
    nested = save({"outer": {entry: tiny()}}, tmp_path / "nested.pth")
    with pytest.raises(CheckpointError, match="no entry 'nothing'"):
        load_checkpoint(nested, entry="nothing")


def test_foreign_classes_are_stood_in_for_and_listed(tmp_path: Path) -> None:
    class Config(dict):  # type: ignore[type-arg]
        """Filled like a dictionary, as those of mmengine."""

    class History(list):  # type: ignore[type-arg]
        """Filled like a list."""

    for foreign in (Config, History):
        foreign.__qualname__, foreign.__module__ = foreign.__name__, __name__
        globals()[foreign.__name__] = foreign
    content = {
        "args": argparse.Namespace(lr=1e-3, output=Path("/run")),
        "best": np.float64(83.5),
        "table": np.arange(3),
        "config": Config(a=1),
        "history": History([1, 2]),
        "counts": collections.defaultdict(list, a=[1]),
        "last": collections.deque([1.0]),
        "scaler": None,
        "module": tiny(),
    }
    path = save(content, tmp_path / "mp_rank_00_model_states.pt")
    for foreign in (Config, History):
        del globals()[foreign.__name__]  # as where the package is not installed
    assert same(load_checkpoint(path), tiny())
    for name in ("argparse.Namespace", "numpy.dtype", f"{__name__}.Config", "collections.deque", "pathlib.PosixPath"):
        assert name in steps(path)["open"]


def test_what_training_wraps_a_model_in_comes_off(tmp_path: Path) -> None:
    model = nn.ModuleDict({"inner": nn.Linear(2, 2)})
    compiled = torch.compile(nn.Sequential(collections.OrderedDict(module=model)))
    assert next(iter(compiled.state_dict())) == "_orig_mod.module.inner.weight"
    state_dict = {f"_orig_mod.module.{key}": tensor for key, tensor in tiny().items()}
    path = save({"state_dict": state_dict, "epoch": 3}, tmp_path / "last.pth")
    assert same(load_checkpoint(path), tiny())
    assert steps(path)["strip"] == "'_orig_mod.', 'module.' taken off keys"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_unless_asked_otherwise(dtype: torch.dtype, tmp_path: Path) -> None:
    half = {key: tensor.to(dtype) for key, tensor in tiny().items()}
    path = save(half, tmp_path / "half.pth")
    out = conversion.convert(load_checkpoint(path), num_attention_heads=NUM_HEADS)
    assert {tensor.dtype for tensor in out.state_dict.values()} == {dtype}
    assert out.config.dtype == dtype
    cast = read_checkpoint(path, dtype=torch.float32)
    assert same(cast.state_dict, {key: tensor.float() for key, tensor in half.items()})
    assert cast.steps[-1].did == f"{len(half)} tensors cast from {dtype} to torch.float32"


def test_what_a_smaller_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = save(tiny() | {"norm.weight": torch.full((32,), 7e4)}, tmp_path / "large.pth")
    with pytest.raises(
        CheckpointError, match=r"(?s)large\.pth: values too large for torch\.float16.*norm\.weight: 7e\+04"
    ):
        read_checkpoint(path, dtype=torch.float16)


def test_a_device_that_is_absent_does_not_matter(tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "cpu.pth", _use_new_zipfile_serialization=False)
    on_gpu = (tmp_path / "cpu.pth").read_bytes().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:7")
    (tmp_path / "gpu.pth").write_bytes(on_gpu)
    assert b"cuda:7" in on_gpu
    assert same(load_checkpoint(tmp_path / "gpu.pth"), tiny())


def test_views_and_shared_storages_are_read_as_what_they_show(tmp_path: Path) -> None:
    odd = dict(tiny())
    odd["blocks.0.mlp.fc1.weight"] = odd["blocks.0.mlp.fc1.weight"].T.contiguous().T
    odd["blocks.1.norm1.weight"] = odd["blocks.0.norm1.weight"]
    storage = torch.cat((odd["norm.weight"], odd["norm.bias"]))
    odd["norm.weight"], odd["norm.bias"] = storage[:32], storage[32:]
    assert not odd["blocks.0.mlp.fc1.weight"].is_contiguous()
    assert same(
        load_checkpoint(save(odd, tmp_path / "odd.pth")),
        tiny() | {"blocks.1.norm1.weight": odd["blocks.0.norm1.weight"]},
    )
