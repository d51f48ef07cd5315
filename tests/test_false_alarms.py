"""A conversion without a fault is never failed: other seeds, every architecture, dtype and attention implementation."""

from pathlib import Path

import pytest
import torch

from conversion.family import load_family
from conversion.parity.verdict import Verdict
from conversion.parity.verify import describe_failure
from conversion.synthetic import draw_state_dict
from tests.golden import NUM_HEADS, read_golden
from tests.subject import Request, Subject

SEEDS = range(5)
MODELS = ("dinov2_tiny", "dinov2_tiny_swiglu", "dinov2_tiny_reg", "dinov2_tiny_1layer", "dinov2_tiny_reg_1layer")
# transformers 4 takes the softmax of eager attention in float32, which float64 shows
CELLS = [("eager", "float32"), ("eager", "bfloat16"), ("sdpa", "float32"), ("sdpa", "float64"), ("sdpa", "bfloat16")]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", MODELS)
def test_no_intact_conversion_fails(model: str, seed: int, tmp_path: Path) -> None:
    family = load_family("dinov2")
    state_dict = draw_state_dict(family.original_shapes(read_golden(model).spec), model, seed)
    torch.save(state_dict, tmp_path / "tiny.pth")
    request = Request(seed=seed, checkpoint=tmp_path / "tiny.pth", num_attention_heads=NUM_HEADS)
    subject = Subject("dinov2_custom", request)
    points = family.capture_points(read_golden(model).spec)
    try:
        for attention, dtype in CELLS:
            cell = subject.verify("cpu", dtype, attention)
            message = describe_failure(model, f"{dtype}, {attention}", cell.inputs, points)
            assert cell.verdict is not Verdict.FAILED, message
    finally:
        subject.close()
