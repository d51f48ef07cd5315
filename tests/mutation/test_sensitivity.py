"""A suite that passes says something only if it would have failed: every fault, on every kind of tensor.

With ``--all`` each fault is put into every block, of a depth model of many blocks into three. By default one block is
drawn for it, and a model whose head takes the outputs of four of its blocks is cut to five. The faults of the map, of
tensors and of the config are judged with the attention implementation that is not exact, so that each must stand out
from rounding. ``python -m tests.mutation.kill_matrix`` writes ``docs/sensitivity.md``.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.mutation.assumptions import judge_assumptions
from tests.mutation.fault_lists import WITHIN_ROUNDING, list_config_faults, list_injections
from tests.mutation.field_faults import judge_fields
from tests.mutation.file_faults import FILE_FAULTS, intact
from tests.mutation.file_setup import FileFault, FileSetup
from tests.mutation.injection import FaultyModel, Injection, Outcome
from tests.mutation.recorded_faults import RECORDED, build_full_size, list_recorded
from tests.support.golden import ARCHITECTURES, read_golden
from tests.support.sampling import Sampler

NOTICED_BY = {"intake": "intake", "preprocessing": "activations", "artifact": "artifact"}


def list_sorts(injection: Injection) -> list[tuple[str, str]]:
    """What kind of fault it is, on what kinds of tensor: of two where two are exchanged; blocks are alike."""
    return [(injection.kind, tensor) for tensor in re.sub(r"\d+", "", injection.where).split(" and ")]


def check_all_noticed(outcomes: list[Outcome], record_property: Callable[[str, object], None]) -> None:
    survivors = [f"{outcome.kind}: {outcome.where}" for outcome in outcomes if outcome.survives]
    record_property("faults", len(outcomes))
    record_property("survivors", survivors)
    assert not survivors


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_no_fault_of_map_tensor_or_config_survives(
    model: str, sampler: Sampler, record_property: Callable[[str, object], None]
) -> None:
    """Those with a head of convolutions take ten seconds: they have the most sorts of tensors, and the largest maps."""
    faulty_model = FaultyModel.of(model, is_short=not sampler.is_all)
    injections = list(list_injections(faulty_model))
    assert len(injections) > 1000
    drawn = sampler.draw(injections, list_sorts)
    outcomes = [faulty_model.judge(injection, asks_others=False) for injection in drawn]
    check_all_noticed(outcomes, record_property)
    # none is left to the bytes alone, which a wrong table restores as wrongly; but an element that meets zeros only,
    # as the corner of a kernel may after ReLU, has no part in what is computed
    left = [
        injection
        for injection, outcome in zip(drawn, outcomes, strict=True)
        if outcome.noticed_by.isdisjoint({"activations", "artifact"})
    ]
    assert [each for each in left if each.table or each.config or faulty_model.has_effect(each)] == []


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if not read_golden(name).spec.takes_masks])
def test_an_eps_within_the_rounding_of_float32_is_noticed_in_float64(model: str) -> None:
    faulty_model = FaultyModel.of(model, torch.float64)
    kinds = {f"config: {kind}" for kind in WITHIN_ROUNDING}
    faults = [injection for injection in list_config_faults(faulty_model) if injection.kind in kinds]
    assert len(faults) == len(kinds)
    noticed = [faulty_model.judge(injection, asks_others=False).noticed_by for injection in faults]
    assert noticed == [{"activations"}] * len(faults)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_no_field_of_a_settings_file_survives(model: str, record_property: Callable[[str, object], None]) -> None:
    outcomes = judge_fields(model)
    assert len(outcomes) > 40
    check_all_noticed(outcomes, record_property)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_nothing_is_assumed_for_both_models_alike(model: str, record_property: Callable[[str, object], None]) -> None:
    outcomes = judge_assumptions(model)
    assert len(outcomes) > 8
    check_all_noticed(outcomes, record_property)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_without_a_fault_nothing_is_noticed(model: str) -> None:
    faulty_model = FaultyModel.of(model)
    own = dict(faulty_model.out.state_dict)
    unchanged = Injection("none", "every tensor put in its place", own)
    assert faulty_model.judge(unchanged).noticed_by == frozenset()
    assert not faulty_model.has_effect(unchanged)
    key = next(iter(own))
    zeroed = Injection("zeroed", key, {key: torch.zeros_like(own[key])})
    assert faulty_model.judge(zeroed).noticed_by >= {"tensors", "activations"}
    assert faulty_model.has_effect(zeroed)
    assert faulty_model.judge(Injection("none", "afterwards")).noticed_by == frozenset()


@pytest.fixture
def file_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSetup:
    return FileSetup(read_golden("dinov2_tiny_1layer"), tmp_path, monkeypatch)


@pytest.mark.parametrize("at", ["intake", "preprocessing", "artifact"])
def test_files_without_a_fault_are_not_noticed(at: str, file_setup: FileSetup) -> None:
    assert file_setup.judge(FileFault(at, "none", intact)).survives


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: f"{fault.at}: {fault.kind}".replace(" ", "_"))
def test_no_fault_of_a_file_survives(
    fault: FileFault, file_setup: FileSetup, record_property: Callable[[str, object], None]
) -> None:
    outcome = file_setup.judge(fault)
    assert NOTICED_BY[fault.at] in outcome.noticed_by
    check_all_noticed([outcome], record_property)


@pytest.mark.slow
def test_no_recorded_fault_of_a_full_size_model_survives(
    sampler: Sampler, record_property: Callable[[str, object], None]
) -> None:
    """Ten seconds: each fault is judged on a model of twelve blocks and full width."""
    faulty_model = build_full_size()
    injections = list_recorded(faulty_model)
    assert Counter(injection.kind for injection in injections) == RECORDED
    assert len(injections) == 1232
    outcomes = [faulty_model.judge(injection, asks_others=False) for injection in sampler.draw(injections, list_sorts)]
    check_all_noticed(outcomes, record_property)
