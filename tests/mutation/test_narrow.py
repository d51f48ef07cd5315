"""Narrow models, whose elements share their errors: none that is intact is failed, and every fault is noticed.

``python -m tests.mutation.test_narrow`` looks at a thousand, in five minutes.
"""

import random
import sys
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from conversion.parity import compare
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from tests.mutation.fault_lists import list_injections
from tests.mutation.injection import FaultyModel, Injection
from tests.support.narrow import NarrowModel
from tests.support.sampling import Sampler

BY_LUCK = (69, 125, 139, 159, 183, 200, 308, 395, 549, 638, 803, 880)
"""Whose original happens to round so well somewhere that its own error alone would have them failed."""

WITH_ZEROS = (281, 1007)
"""Whose keys of attention are zeros, since all their weights are."""

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
FAULTS = 12
"""Of each model, drawn from all kinds, on all tensors."""


def find_alarms(seeds: Iterable[int], dtype: torch.dtype = torch.float32) -> list[str]:
    """What is said of intact models that are failed."""
    alarms = []
    for model in map(NarrowModel, seeds):
        results = model.verify(dtype)
        if any(result.verdict is Verdict.FAILED for result in results):
            alarms.append(describe_failure(f"{model.seed}: {model.spec}, {model.kind}", str(dtype), results))
    return alarms


def test_no_narrow_model_of_old_fails(record_property: Callable[[str, object], None]) -> None:
    seeds = [*BY_LUCK, *WITH_ZEROS]
    alarms = find_alarms(seeds)
    record_property("intact_narrow_models", len(seeds))
    assert not alarms, "\n".join(alarms)


def test_no_intact_narrow_model_fails(sampler: Sampler, record_property: Callable[[str, object], None]) -> None:
    """Of any spec, with any weights."""
    seeds: set[int] = set()

    @seed(sampler.seed)
    @settings(max_examples=sampler.count(30, 1000), deadline=None, database=None)
    @given(st.integers(0, 2**31 - 1))
    def hold(model: int) -> None:
        seeds.add(model)
        alarms = find_alarms([model])
        assert not alarms, "\n".join(alarms)

    hold()
    record_property("intact_narrow_models", len(seeds))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_nor_in_another_dtype(dtype: torch.dtype) -> None:
    alarms = find_alarms([*range(30, 36), 200, 880], dtype)
    assert not alarms, "\n".join(alarms)


@pytest.mark.parametrize("number", [200, 880])
def test_by_the_originals_own_error_alone_it_would_be_failed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "OTHER_RUNS", 0)
    assert find_alarms([number])


def draw_faults(faulty_model: FaultyModel, number: int) -> list[Injection]:
    """Some faults, of those that leave a head at least."""
    faults = [fault for fault in list_injections(faulty_model) if 0 not in fault.config.values()]
    return random.Random(number).sample(faults, FAULTS)


@pytest.mark.parametrize("number", range(0, 40, 5))
def test_every_fault_of_a_narrow_model_is_noticed(number: int) -> None:
    """A fault below the rounding of float32, as of a bias beside outliers of 10,000, is noticed in float64."""
    model = NarrowModel(number)
    faulty_model, precise = (
        FaultyModel(f"narrow {number}", model.family, model.spec, model.overrides, model.source, dtype)
        for dtype in (torch.float32, torch.float64)
    )
    known = {(fault.kind, fault.where): fault for fault in list_injections(precise)}
    for fault in draw_faults(faulty_model, number):
        outcome = faulty_model.judge(fault, asks_others=False)
        if outcome.noticed_by.isdisjoint({"keys", "activations", "artifact"}):
            # what is not noticed in float64 either is the same function, as of layer scales of -0
            in_double = precise.judge(known[fault.kind, fault.where], asks_others=False)
            assert not outcome.survives or not in_double.survives, outcome
            assert model.kind == "outliers" or "activations" not in in_double.noticed_by, outcome


if __name__ == "__main__":
    found = find_alarms(range(*map(int, sys.argv[1:] or (1000,))))
    print("\n".join(found), f"{len(found)} alarms", sep="\n")
