"""How alike what a lossy export returns is: the worst cosine, and the part of equal decisions."""

import pytest
import torch

from conversion.parity.metrics import Distance, Likeness, likeness_of
from conversion.parity.verdict import PointVerdict, Verdict, grant_loss

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
OTHERS = torch.tensor([[1.0, 2.0, 3.1], [2.0, 3.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
"""Of four images; the second is decided otherwise."""


def test_the_cosine_is_that_of_the_image_that_is_least_alike() -> None:
    reference = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    likeness = likeness_of(torch.tensor([[[3.0, 4.0]], [[1.0, 1.0]]]), reference, decides=False)
    assert likeness == Likeness(pytest.approx(0.5**0.5), None)


def test_cosines_are_computed_in_float64() -> None:
    tensor = torch.full((1, 4096), 300.0, dtype=torch.float16)
    assert likeness_of(tensor, tensor, decides=False).cosine == pytest.approx(1, abs=1e-15)


def test_decisions_of_a_classifier_are_counted_by_images() -> None:
    likeness = likeness_of(OTHERS, LOGITS, decides=True)
    assert likeness.top == 0.75
    assert likeness.cosine == pytest.approx(13 / 14)


def test_decisions_of_a_segmentation_are_counted_by_pixels() -> None:
    """Of two images of two pixels, with three classes."""
    reference, tensor = (each.view(2, 1, 2, 3).permute(0, 3, 1, 2) for each in (LOGITS, OTHERS))
    assert likeness_of(tensor, reference, decides=True).top == 0.75


def test_an_export_may_lose_what_was_measured_and_nothing_else() -> None:
    measured = PointVerdict("block.0", Verdict.FAILED, converted_error=Distance(1.0, 1.0), reason="too large")
    assert grant_loss(measured).verdict is Verdict.LOSSY
    assert grant_loss(measured).reason == "too large"
    for other in (
        PointVerdict("block.0", Verdict.FAILED, reason="NaN"),
        PointVerdict("block.0", Verdict.CLOSE, converted_error=Distance(1.0, 1.0)),
        PointVerdict("block.0", Verdict.EXACT),
    ):
        assert grant_loss(other) == other
