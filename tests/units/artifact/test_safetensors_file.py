"""The file that is written: read back by safetensors itself, every tensor aligned that can be, the same bytes twice."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import conversion
from conversion.artifact.load import load_model
from conversion.artifact.safetensors_file import ALIGNMENT, DTYPES, METADATA, order_keys, write_safetensors
from conversion.artifact.stage import save_artifact
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.intake.synthetic import draw_state_dict
from conversion.state_dicts.folder import LEFT_OUT
from tests.support.golden import NAMES, read_golden

READ_BY_TORCH = [getattr(torch, name) for name in DTYPES]
SHAPES = st.lists(st.integers(0, 5) | st.sampled_from([16, 64]), max_size=3).map(tuple)


@st.composite
def any_tensors(draw: st.DrawFn) -> Tensor:
    """Of any dtype that the format has, any bits, 0-d and empty ones; some are views that are not contiguous."""
    dtype, shape = draw(st.sampled_from(READ_BY_TORCH)), draw(SHAPES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    elements = torch.Size(shape).numel()
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (elements, dtype.itemsize), generator=generator)
    tensor = raw.to(torch.uint8).view(-1).view(dtype).view(shape)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


def read_offsets(path: Path) -> dict[str, tuple[int, int]]:
    """Key to where its tensor begins in the file, and its size, in bytes."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(raw[8 : 8 + length])
    spans = {key: entry["data_offsets"] for key, entry in header.items() if key != "__metadata__"}
    return {key: (8 + length + start, end - start) for key, (start, end) in spans.items()}


def assert_aligned(path: Path) -> None:
    """Every tensor lies at a multiple of the largest power of two that divides its size, up to the alignment."""
    for key, (start, size) in read_offsets(path).items():
        power = min(size & -size or ALIGNMENT, ALIGNMENT)
        assert start % power == 0, f"{path.name}: {key} of {size} bytes lies at {start % ALIGNMENT} mod {ALIGNMENT}"


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), any_tensors(), max_size=6))
def test_safetensors_reads_back_what_was_written(tensors: dict[str, Tensor]) -> None:
    tensors.pop("__metadata__", None)
    with TemporaryDirectory() as folder:
        path, again = Path(folder) / "one.safetensors", Path(folder) / "two.safetensors"
        write_safetensors(tensors, path)
        read = load_file(path)
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == METADATA
        assert read.keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert (read[key].dtype, read[key].shape) == (tensor.dtype, tensor.shape)
            assert read[key].contiguous().view(-1).view(torch.uint8).tolist() == (
                tensor.contiguous().view(-1).view(torch.uint8).tolist()
            )
        assert_aligned(path)
        write_safetensors(dict(reversed(tensors.items())), again)
        assert path.read_bytes() == again.read_bytes()


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 1000), max_size=12))
def test_no_order_aligns_more_than_all_that_are_multiples_and_one(sizes: dict[str, int]) -> None:
    start, aligned = 0, []
    for key in order_keys(sizes):
        aligned += [key] * (start % ALIGNMENT == 0)
        start += sizes[key]
    multiples = {key for key, size in sizes.items() if size % ALIGNMENT == 0}
    assert multiples <= set(aligned)
    assert len(multiples) == len(sizes) or set(aligned) - multiples


def test_a_dtype_that_the_format_has_not_is_an_error_that_writes_nothing(tmp_path: Path) -> None:
    tensors = {"x": torch.ones(2, dtype=torch.complex128), "y": torch.ones(2)}
    with pytest.raises(ArtifactError, match=r"no such dtype[\s\S]*x: torch\.complex128"):
        write_safetensors(tensors, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [None, "100KB"])
@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_an_artifact_is_aligned(name: str, size: str | None, tmp_path: Path) -> None:
    golden = read_golden(name)
    out = conversion.convert(golden.state_dict, **golden.overrides)
    save_artifact(out, tmp_path / "tiny", max_shard_size=size)
    files = list((tmp_path / "tiny").glob("*.safetensors"))
    assert (len(files) > 2) == (size is not None)
    assert (tmp_path / "tiny" / LEFT_OUT in files) == bool(out.left_out)
    for path in files:
        assert_aligned(path)


@pytest.mark.parametrize("classes", [7, 1000])
def test_the_weights_of_a_model_are_aligned_in_memory_whatever_its_number_of_classes(
    classes: int, tmp_path: Path
) -> None:
    """A bias of seven classes is 28 bytes, which would shift all that comes after it."""
    family = load_family("data2vec_vision")
    golden = read_golden("data2vec_vision_tiny_ade20k")
    known = conversion.convert(golden.state_dict, **golden.overrides).spec
    spec = family.build_spec(**{**vars(known), "num_classes": classes})
    out = conversion.convert(draw_state_dict(family, spec, "any", 0), **golden.overrides)
    save_artifact(out, tmp_path / "tiny")
    for path in (tmp_path / "tiny").glob("*.safetensors"):
        assert_aligned(path)
    model = load_model(tmp_path / "tiny")
    misaligned = {
        key: parameter.data_ptr() % ALIGNMENT
        for key, parameter in model.named_parameters()
        if parameter.nbytes % ALIGNMENT == 0 and parameter.data_ptr() % ALIGNMENT
    }
    assert misaligned == {}
