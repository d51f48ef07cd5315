"""What is not kept in memory while passes of several inputs and models go side by side."""

import gc
from collections.abc import Iterator

import pytest
import torch

from conversion.parity.capture import StageRun
from conversion.parity.original_run import OriginalRun
from conversion.parity.precision import Casts
from conversion.parity.verify import Candidate, InputPlan, verify_together
from tests.support.residual_stack import STAGES, Stack, draw


def count_held() -> int:
    """Stages whose values somebody holds, a thread that waits among them."""
    gc.collect()
    return sum(bool(each.values) for each in gc.get_objects() if isinstance(each, StageRun))


@pytest.fixture
def only_new_objects() -> Iterator[None]:
    """Let the collector look through what is made from now on; the libraries' objects, a million, took seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("only_new_objects")
def test_a_stage_is_forgotten_before_the_next_begins() -> None:
    """But for the one that was read last, of three inputs, two models, the original and its yardstick each."""
    before, faulty, casts, held = count_held(), Stack(), Casts(), []
    faulty.blocks[0].shift = 1e-7
    original = Stack()
    runs = [OriginalRun(original, STAGES, draw(tokens), torch.float32, casts=casts) for tokens in (3, 4, 5)]
    plans = [InputPlan("any", run, [Candidate(faulty), Candidate(Stack())]) for run in runs]
    verify_together(plans, at=lambda _: held.append(count_held() - before))
    assert max(held) == 1
    assert count_held() == before
