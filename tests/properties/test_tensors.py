"""The pure tensor functions, on rows that carry labels."""

import re

import pytest
import torch
from hypothesis import given
from torch import Tensor

from conversion.errors import KeyMapError
from conversion.mapping.tensors import (
    describe_unusable,
    fuse_rows,
    resample_position_embeddings,
    split_rows,
    square_side,
)
from tests.support.strategies import fused_tensors


def test_split_cuts_fused_rows_into_query_key_value_in_this_order() -> None:
    rows = torch.tensor([[10.0], [11.0], [20.0], [21.0], [30.0], [31.0]])  # tens: q, k, v; ones: row
    query, key, value = split_rows(rows, 3)
    assert query.tolist() == [[10.0], [11.0]]
    assert key.tolist() == [[20.0], [21.0]]
    assert value.tolist() == [[30.0], [31.0]]


@given(fused_tensors())
def test_splitting_then_fusing_qkv_is_the_identity(fused: Tensor) -> None:
    before = fused.clone()
    parts = split_rows(fused, 3)
    assert torch.equal(fuse_rows(parts), before)
    assert torch.equal(fused, before)
    assert {part.untyped_storage().data_ptr() for part in parts} == {fused.untyped_storage().data_ptr()}
    assert all(part.is_contiguous() for part in parts)


@pytest.mark.parametrize("shape", [(4, 2), (0, 2), ()])
def test_split_refuses_rows_that_do_not_divide(shape: tuple[int, ...]) -> None:
    with pytest.raises(KeyMapError, match="3 equal parts"):
        split_rows(torch.zeros(shape), 3)


def test_fuse_refuses_parts_of_different_shape() -> None:
    with pytest.raises(KeyMapError, match=r"\(2, 2\), \(3, 2\)"):
        fuse_rows([torch.zeros(2, 2), torch.zeros(3, 2)])


@pytest.mark.parametrize(("offset", "antialias"), [(0.1, False), (0.0, True), (0.0, False)])
@pytest.mark.parametrize("grid", [(2, 2), (3, 7), (9, 4)])
def test_resampling_keeps_the_cls_position_and_a_constant(
    grid: tuple[int, int], offset: float, antialias: bool
) -> None:
    pos_embed = torch.full((1, 26, 3), 2.0)
    pos_embed[:, 0] = 7.0
    resampled = resample_position_embeddings(pos_embed, grid, offset=offset, antialias=antialias)
    assert resampled.shape == (1, 1 + grid[0] * grid[1], 3)
    assert (resampled[:, 0] == 7.0).all()
    assert resampled[:, 1:].allclose(torch.tensor(2.0), atol=1e-6)  # the kernel's weights sum to one


def test_resampling_keeps_rows_and_columns_apart() -> None:
    pos_embed = torch.cat((torch.zeros(1), torch.arange(5.0).repeat_interleave(5))).reshape(1, 26, 1)  # value: row
    resampled = resample_position_embeddings(pos_embed, (10, 3), offset=0.0, antialias=False)[0, 1:, 0].reshape(10, 3)
    assert (resampled.diff(dim=0) > -0.2).all()
    assert resampled[-1, 0] - resampled[0, 0] > 3.9
    assert (resampled.diff(dim=1).abs() < 1e-5).all()  # five products of values up to 4, in float32


def test_resampling_is_float32_inside_and_keeps_the_dtype() -> None:
    pos_embed = torch.randn(1, 26, 4, generator=torch.Generator().manual_seed(0))
    double = resample_position_embeddings(pos_embed.double(), (3, 3), offset=0.1, antialias=False)
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), resample_position_embeddings(pos_embed, (3, 3), offset=0.1, antialias=False))


@pytest.mark.parametrize("count", [0, 2, 24])
def test_square_side_refuses_what_is_not_a_square(count: int) -> None:
    with pytest.raises(KeyMapError, match=f"{count} patch positions"):
        square_side(count)


def test_unusable_tensors_are_all_named() -> None:
    tensors = {
        "good": torch.ones(2, 2),
        "nan": torch.tensor([1.0, float("nan")]),
        "inf": torch.tensor([1.0, -float("inf"), float("inf")]),
        "integer": torch.ones(2, dtype=torch.int64),
        "sparse": torch.eye(2).to_sparse(),
        "float8": torch.ones(2).to(torch.float8_e4m3fn),
        "half": torch.tensor([float("nan")], dtype=torch.float16),
    }
    problems = describe_unusable(tensors)
    assert [problem.partition(":")[0] for problem in problems] == ["nan", "inf", "integer", "sparse", "float8", "half"]
    assert "2 of 3" in problems[1]


def test_one_position_is_a_grid() -> None:
    assert square_side(1) == 1


def test_a_ratio_that_misses_the_grid_is_refused() -> None:
    """An offset below -1 shrinks the grid by more than a position, which no official model does."""
    with pytest.raises(KeyMapError, match=re.escape("Resampling 4x4 positions gave (2, 2), not (4, 4).")):
        resample_position_embeddings(torch.zeros(1, 17, 2), (4, 4), offset=-1.5, antialias=False)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_what_is_no_number_is_not_called_an_integer(dtype: torch.dtype) -> None:
    (problem,) = describe_unusable({"w": torch.zeros(2, dtype=dtype)})
    assert problem == f"w: not a dense floating-point tensor ({dtype}, torch.strided)"
