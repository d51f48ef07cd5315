"""Intake: what is read, what is undone, and what is refused without running it."""

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from conversion.checkpoint import ENTRIES, PREFIXES, load_checkpoint, strip_prefixes, unchunk_blocks, unwrap
from conversion.errors import CheckpointError
from conversion.parity.metrics import is_bit_equal
from tests.golden import read_golden

HERE = Path("checkpoint.pth")
TRAINING_HEAD = {"dino_head.last_layer.weight": torch.zeros(2)}


def tiny() -> dict[str, Tensor]:
    return read_golden("dinov2_tiny").backbone


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(is_bit_equal(left[key], right[key]) for key in left)


def test_a_flat_file_is_read_lazily(tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "tiny.pth")
    assert same(load_checkpoint(tmp_path / "tiny.pth"), tiny())
    loaded = load_checkpoint(tmp_path / "tiny.pth")
    with (tmp_path / "tiny.pth").open("r+b") as file:
        file.write(bytes((tmp_path / "tiny.pth").stat().st_size))
    assert not any(tensor.any() for tensor in loaded.values())  # memory-mapped: what was not read yet is gone


def test_a_legacy_file_is_read_the_slow_way(tmp_path: Path) -> None:
    torch.save(tiny(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(load_checkpoint(tmp_path / "old.pth"), tiny())


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    save_file(tiny(), tmp_path / "tiny.safetensors")
    assert same(load_checkpoint(tmp_path / "tiny.safetensors"), tiny())


def test_a_teacher_checkpoint_comes_out_clean(tmp_path: Path) -> None:
    teacher = {f"backbone.{key}": tensor for key, tensor in tiny().items()} | TRAINING_HEAD
    torch.save({"teacher": teacher, "iteration": 3}, tmp_path / "teacher_checkpoint.pth")
    assert same(load_checkpoint(tmp_path / "teacher_checkpoint.pth"), tiny() | TRAINING_HEAD)


def test_blocks_are_counted_through_their_chunks() -> None:
    golden = read_golden("dinov2_tiny_chunked")
    assert "blocks.1.2.norm1.weight" in golden.recorded
    unchunked = unchunk_blocks(golden.recorded, HERE)
    assert {key.split(".")[1] for key in unchunked if key.startswith("blocks.")} == {"0", "1", "2", "3"}
    assert is_bit_equal(unchunked["blocks.2.norm1.weight"], golden.recorded["blocks.1.2.norm1.weight"])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(ENTRIES), max_size=3), st.lists(st.sampled_from(PREFIXES), max_size=3), st.booleans())
def test_any_stack_of_wrappers_and_prefixes_is_undone(entries: list[str], prefixes: list[str], chunked: bool) -> None:
    golden = read_golden("dinov2_tiny_chunked")
    state_dict = golden.recorded if chunked else golden.backbone
    content: object = {"".join(prefixes) + key: tensor for key, tensor in state_dict.items()}
    for entry in entries:
        content = {entry: content, "epoch": 1}
    assert same(unchunk_blocks(strip_prefixes(unwrap(content, HERE), HERE), HERE), golden.backbone)


def test_prefixes_that_only_some_keys_carry_stay() -> None:
    mixed = {"backbone.a": torch.zeros(1), "decode_head.b": torch.zeros(1)}
    assert strip_prefixes(mixed, HERE).keys() == mixed.keys()


def test_keys_that_become_one_are_named() -> None:
    colliding = {"blocks.0.1.norm1.weight": torch.zeros(1), "blocks.1.1.norm1.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth.*\n.*blocks\.0\.1\.norm1\.weight and blocks\.1\.1"):
        unchunk_blocks(colliding, HERE)


class Boom:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def damaged_files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save(tiny(), buffer)
    whole = buffer.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    boom = io.BytesIO()
    torch.save({"model": tiny(), "hook": Boom()}, boom)
    legacy = io.BytesIO()
    torch.save(tiny(), legacy, _use_new_zipfile_serialization=False)
    return {
        "empty.pth": b"",
        "truncated.pth": whole[: len(whole) // 2],
        "beheaded.pth": whole[100:],
        "one_byte.pth": b"P",
        "text.pth": b"<html>404 Not Found</html>",
        "random.pth": bytes(range(256)) * 64,
        "archive.pth": archive.getvalue(),
        "boom.pth": boom.getvalue(),
        "truncated_legacy.pth": legacy.getvalue()[:-1000],
        "empty.safetensors": b"",
        "text.safetensors": b"<html>404 Not Found</html>",
        "huge_header.safetensors": (2**60).to_bytes(8, "little") + b"{}",
    }


@pytest.mark.parametrize("name", damaged_files())
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(damaged_files()[name])
    with pytest.raises(CheckpointError, match=name) as raised:
        load_checkpoint(tmp_path / name)
    assert raised.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing ran, nothing was written


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "an empty mapping"),
        ([1, 2], "a list"),
        (torch.zeros(3), "a Tensor"),
        ({"model": {}}, r"\['model'\]: holds no state dict"),
        ({"epoch": 3, "lr": 0.1}, "2 of 2 entries are not tensors"),
        ({"optimizer": {"state": {}}, "epoch": 1}, "under one of: teacher, model"),
        ({1: torch.zeros(1)}, "1 of 1 entries"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=found) as raised:
        load_checkpoint(tmp_path / "other.pth")
    assert "other.pth" in str(raised.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be looked at"):
        load_checkpoint(tmp_path / ("x" * 300))
