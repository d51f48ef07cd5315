"""An artifact is the same whatever its source was read from, and every bit of it is compared and hashed."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import conversion
from conversion.artifact import card
from conversion.artifact.card import find_provenance, hash_file
from conversion.artifact.checks import is_made_of
from conversion.artifact.safetensors_file import PIECE, write_safetensors
from conversion.errors import ConversionWarning
from conversion.parity.metrics import is_bit_equal
from tests.support.golden import NAMES, read_golden


def save_in_shards(tensors: dict[str, Tensor], path: Path) -> Path:
    """Two files of ``torch.save`` and their index; gives the index."""
    names = sorted(tensors)
    halves = {"first.bin": names[::2], "second.bin": names[1::2]}
    for file, keys in halves.items():
        torch.save({key: tensors[key] for key in keys}, path.with_name(file))
    index = path.with_name("pytorch_model.bin.index.json")
    places = {key: file for file, keys in halves.items() for key in keys}
    index.write_text(f'{{"weight_map": {str(places).replace(chr(39), chr(34))}}}', encoding="utf-8")
    return index


def save_by(save: Callable[[dict[str, Tensor], Path], object]) -> Callable[[dict[str, Tensor], Path], Path]:
    def save_and_name(tensors: dict[str, Tensor], path: Path) -> Path:
        save(tensors, path)
        return path

    return save_and_name


WAYS: dict[str, Callable[[dict[str, Tensor], Path], Path]] = {
    "mapped from an archive": save_by(torch.save),
    "read whole from the older format": save_by(
        lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False)
    ),
    "mapped from safetensors": save_by(save_file),
    "from shards": save_in_shards,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_do_not_depend_on_the_format_of_the_source(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    tensors = {key: tensor.contiguous() for key, tensor in golden.recorded.items()}
    hashes = {}
    for number, (way, save) in enumerate(WAYS.items()):
        (tmp_path / str(number)).mkdir()
        state_dict = conversion.load_checkpoint(save(tensors, tmp_path / str(number) / "model.pth"))
        head = golden.linear_head or None
        out = conversion.convert(state_dict, linear_head=head, **golden.overrides)
        target = conversion.save_artifact(out, tmp_path / str(number) / "artifact")
        hashes[way] = {path.name: hash_file(path) for path in target.iterdir() if path.suffix == ".safetensors"}
    first, *others = hashes.values()
    assert first
    assert all(other == first for other in others), hashes


def test_a_tensor_of_many_pieces_is_written_whole(tmp_path: Path) -> None:
    tensors = {"large": torch.randn(3 * PIECE // 4 + 5), "small": torch.randn(3), "none": torch.randn(0)}
    write_safetensors(tensors, tmp_path / "file")
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    assert all(is_bit_equal(tensor, found[key]) for key, tensor in tensors.items())


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_a_hash_is_of_the_whole_file(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "HASHED_AT_ONCE", 100)
    (tmp_path / "file").write_bytes(os.urandom(size))
    assert hash_file(tmp_path / "file") == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_parts_make_a_tensor_where_every_bit_is_the_same() -> None:
    whole = torch.arange(24.0).view(6, 4)
    thirds = list(whole.clone().split(2))
    assert is_made_of(whole, thirds)
    assert is_made_of(whole, [whole.clone()])
    assert is_made_of(torch.tensor(1.0), [torch.tensor(1.0)])
    assert is_made_of(whole.t(), [whole.t().contiguous()])
    assert not is_made_of(whole, thirds[::-1])
    assert not is_made_of(whole, thirds[:2])
    assert not is_made_of(whole, [*thirds, thirds[0]])
    assert not is_made_of(whole, [third.view(4, 2) for third in thirds])
    assert not is_made_of(whole, [third.double() for third in thirds])
    assert not is_made_of(whole, [whole.view(4, 6)])
    assert not is_made_of(torch.tensor(1.0), [torch.tensor(1.0), torch.tensor(1.0)])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("place", [0, PIECE, PIECE + 9])
def test_a_bit_is_missed_nowhere(dtype: torch.dtype, place: int) -> None:
    whole = torch.zeros(PIECE + 16, dtype=torch.uint8).view(dtype)
    part = whole.clone()
    part.view(torch.uint8)[place] = 1
    assert is_made_of(whole, [whole.clone()])
    assert not is_made_of(whole, [part])


def test_zeros_of_either_sign_are_two_and_a_nan_is_itself() -> None:
    assert not is_made_of(torch.zeros(2), [-torch.zeros(2)])
    assert is_made_of(torch.full((2,), torch.nan), [torch.full((2,), torch.nan)])


def test_a_file_that_changes_while_it_is_hashed_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden("dinov2_tiny")
    file = tmp_path / "model.pth"
    torch.save(golden.recorded, file)
    out = conversion.convert(conversion.load_checkpoint(file), **golden.overrides)
    assert find_provenance(out)[1] == []

    def hash_and_change(path: Path) -> str:
        found = hash_file(path)
        os.utime(path, ns=(0, 0))
        return found

    monkeypatch.setattr(card, "hash_file", hash_and_change)
    with pytest.warns(ConversionWarning, match=r"model\.pth: not there as it was read; the card names no source"):
        conversion.save_artifact(out, tmp_path / "artifact")
