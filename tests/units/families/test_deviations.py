"""DINOv2's ledger, entry by entry: each is still there, and vanishes under its counterfactual.

When a test here fails because a deviation is gone, transformers has changed: take the entry out of the ledger. The
image processor's entries are in ``tests/units/families/test_preprocessing.py``.
"""

import pytest
import torch

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import families, load_family, tell_settings
from conversion.families.deviations import SOFTMAX_OF_4
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.dinov2.deviations import POSITION_EMBEDDINGS, RESAMPLING
from conversion.families.target import transformers_major
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.deviations import combine
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.suite.inputs import InputCase
from tests.support.golden import read_golden
from tests.support.runs import run_original, verify_input

FAMILY = load_family("dinov2")


def verify(
    spec: Dinov2Spec,
    size: tuple[int, int],
    image_size: int | None = None,
    dtype: str = "float32",
    attention: str = "sdpa",
) -> InputVerdict:
    """Verify a tiny synthetic model at an input size, baked for an image size."""
    state_dict = draw_state_dict(FAMILY, spec, "tiny", 0)
    out = conversion.convert(state_dict, image_size=image_size, **tell_settings(FAMILY, spec))
    original = FAMILY.load_original(spec, state_dict)
    run = run_original(FAMILY, spec, original, InputCase("any", *size), getattr(torch, dtype))
    converted = load_converted(out, attention=attention, dtype=dtype)
    return verify_input("any", run, converted, FAMILY.find_deviation(out.spec, (1, 3, *size), dtype, attention))


@pytest.mark.parametrize("size", [(42, 42), (56, 98), (98, 98)])
def test_position_embeddings_differ_at_other_sizes_by_the_offset_alone(size: tuple[int, int]) -> None:
    result = verify(read_golden("dinov2_tiny").spec, size)
    assert result.deviation == POSITION_EMBEDDINGS.name
    assert result.verdict is Verdict.EXACT
    assert next(iter(result.otherwise)) == "embeddings"
    gone = "gone: take position-embeddings-offset out of the ledger"
    assert result.otherwise["embeddings"].max_abs > 1e-2, gone
    assert {point.verdict for point in result.points} == {Verdict.EXACT}


def test_position_embeddings_agree_at_the_native_size() -> None:
    result = verify(read_golden("dinov2_tiny").spec, (70, 70))
    assert result.verdict is Verdict.EXACT


def test_position_embeddings_agree_where_they_are_baked() -> None:
    result = verify(read_golden("dinov2_tiny").spec, (42, 42), image_size=42)
    assert result.verdict is Verdict.EXACT


@pytest.mark.parametrize("size", [(42, 42), (56, 98), (70, 70)])
def test_registers_agree_at_every_size(size: tuple[int, int]) -> None:
    result = verify(read_golden("dinov2_tiny_reg").spec, size)
    assert result.verdict is Verdict.EXACT


@pytest.mark.parametrize(("size", "others"), [((70, 70), ""), ((42, 42), f"{POSITION_EMBEDDINGS.name}, ")])
def test_a_softmax_in_float32_shows_in_float64_and_vanishes_with_one_in_the_original(
    size: tuple[int, int], others: str
) -> None:
    """The ledger's softmax-in-float32: of transformers 4; 5 has mended it."""
    result = verify(read_golden("dinov2_tiny").spec, size, dtype="float64", attention="eager")
    if transformers_major() > 4:
        assert result.deviation == others.removesuffix(", ")
        assert result.verdict is Verdict.CLOSE
        return
    assert result.deviation == f"{others}{SOFTMAX_OF_4.name}"
    gone = "gone: take softmax-in-float32 out of the ledger"
    assert result.otherwise["block.0.attention"].max_abs > 1e-9, gone
    assert result.verdict in (Verdict.EXACT, Verdict.CLOSE)


def test_deviations_that_apply_together_are_one_with_all_their_counterfactuals() -> None:
    both = combine(POSITION_EMBEDDINGS, None, SOFTMAX_OF_4)
    assert both is not None
    assert both.name == "position-embeddings-offset, softmax-in-float32"
    assert both.original_attributes == {**RESAMPLING["plain"], "softmax_dtype": torch.float32}
    assert combine(None, SOFTMAX_OF_4) is SOFTMAX_OF_4
    assert combine(None, None) is None


def test_every_entry_says_everything() -> None:
    for family in families():
        for entry in family.ledger:
            assert all((entry.name, entry.where, entry.cause, entry.size, entry.counterfactual, entry.remedy)), entry
