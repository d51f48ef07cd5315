"""The time left: none until one model is verified, then by the work of the others and what that one took."""

import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from conversion.families.variants import VARIANTS
from conversion.suite.progress import ModelLines
from conversion.suite.settings import Request
from conversion.suite.time_left import Model, estimate_left, estimate_test, find_model, group_tests
from tests.support.commands import ROOT

PARITY = "tests/parity/test_parity.py::test_parity[{}-cpu-float32-{}]"
RESTORE = "tests/parity/test_restore.py::test_restore[{}]"
UNIT = "tests/properties/test_metrics.py::test_any[dinov2_vits14]"


def list_tests(*variants: str) -> list[str]:
    """What verifies them, in the order of a run."""
    cells = {name: [PARITY.format(name, attention) for attention in ("eager", "sdpa")] for name in variants}
    return [test for name in variants for test in [*cells[name], RESTORE.format(name)]]


class Run:
    """A run that is told to the hooks, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tests: Sequence[str], workers: int) -> None:
        self.now, self.shown = 1000.0, list[str]()
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        reporter = SimpleNamespace(write_line=self.shown.append)
        config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda _: reporter))
        self.lines = ModelLines(config, Request(keyword="dinov2"))  # each whole
        if not workers:
            self.lines.pytest_collection_finish(SimpleNamespace(items=[SimpleNamespace(nodeid=t) for t in tests]))  # type: ignore[arg-type]
        for worker in range(workers):
            self.lines.pytest_xdist_node_collection_finished(name_node(worker), tests)

    def begin(self, test: str) -> None:
        self.lines.pytest_runtest_logstart(test)

    def end(self, test: str) -> None:
        for phase in ("setup", "call", "teardown"):
            report: Any = SimpleNamespace(when=phase, nodeid=test)
            self.lines.pytest_runtest_logreport(report)

    def wait(self, seconds: float) -> str:
        self.now += seconds
        return self.lines.describe_left()


def name_node(worker: int) -> Any:
    return SimpleNamespace(gateway=SimpleNamespace(id=f"gw{worker}"))


def play(run: Run, tests: Sequence[str], seconds: float) -> Iterator[str]:
    """Run tests one after the other; what is shown while each runs, and after it."""
    for test in tests:
        run.begin(test)
        yield run.wait(seconds)
        run.end(test)
        yield run.lines.describe_left()


def test_of_two_equal_models_the_second_takes_as_long_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = list_tests("dinov2_vits14"), list_tests("dinov2_vits14_reg")
    run = Run(monkeypatch, [*first, *second], workers=0)
    *before, after = play(run, first, 200)
    assert set(before) == {""}  # never before the first is done
    assert after == "10 min left"
    assert run.shown == ["dinov2_vits14: done in 10 min; 10 min left"]
    run.begin(second[0])
    assert run.wait(400) == "3 min left"  # as time goes on, less is left
    run.end(second[0])
    assert run.lines.describe_left() == "3 min left"
    run.begin(second[1])
    assert run.wait(170) == "under a minute left"
    assert run.wait(1000) == "under a minute left"
    for test in second[1:]:
        run.end(test)
    assert run.lines.describe_left() == ""
    assert len(run.shown) == 1


def test_two_workers_are_done_in_half_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids have the group at their end then."""
    names = ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitb14", "dinov2_vitb14_reg"]
    tests = {name: [f"{test}@{name}" for test in list_tests(name)] for name in names}
    run = Run(monkeypatch, [test for of_one in tests.values() for test in of_one], workers=2)
    work = {name: model.work for name, model in run.lines.models.items()}
    assert work["dinov2_vits14"] == pytest.approx(work["dinov2_vits14_reg"], rel=0.05)
    ratio = work["dinov2_vitb14"] / work["dinov2_vits14"]
    assert 2 < ratio < 4
    for name in ("dinov2_vitb14", "dinov2_vits14"):
        run.begin(tests[name][0])
    assert run.wait(600) == ""
    for test in tests["dinov2_vits14"]:
        run.end(test)
    # 600 s for one like it, as long as `ratio` of them for each of the large ones, of which 600 s are over for one
    expected = max(600 * ratio, (600 + 600 * ratio + 600 * ratio - 600) / 2)
    assert run.lines.describe_left() == f"{expected / 60:.0f} min left"


def test_a_worker_that_is_gone_does_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitb14", "dinov2_vitb14_reg"]
    run = Run(monkeypatch, list_tests(*names), workers=2)
    for _ in play(run, list_tests("dinov2_vits14"), 200):
        pass
    before = run.lines.describe_left()
    run.lines.pytest_testnodedown(name_node(1))
    after = run.lines.describe_left()
    assert int(after.split()[0]) > 1.5 * int(before.split()[0])


def test_other_tests_are_not_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = list_tests("dinov2_vits14"), list_tests("dinov2_vits14_reg")
    run = Run(monkeypatch, [*first, *second, UNIT], workers=0)
    assert list(play(run, [UNIT], 5)) == ["", ""]
    assert list(play(run, first, 200))[-1] == "10 min left of the models"
    assert list(play(run, second, 200))[-1] == ""


def test_a_model_that_has_crashed_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = list_tests("dinov2_vits14"), list_tests("dinov2_vits14_reg")
    run = Run(monkeypatch, [*first, *second], workers=1)
    for test in first:
        run.begin(test)
        run.wait(200)
        run.lines.pytest_runtest_logreport(SimpleNamespace(when="???", nodeid=test))  # type: ignore[arg-type]
    assert run.lines.describe_left() == "10 min left"


def test_a_classifier_is_one_model_with_its_backbone() -> None:
    models = group_tests([*list_tests("dinov2_vits14", "dinov2_vits14_1layer", "dinov2_custom"), UNIT], Request())
    assert list(models) == ["dinov2_vits14", "dinov2_custom"]
    assert len(models["dinov2_vits14"].waiting) == 6
    assert find_model(UNIT) is None


def test_a_giant_is_more_work_than_all_else() -> None:
    giant, small = PARITY.format("dinov2_vitg14_reg", "sdpa"), PARITY.format("dinov2_vits14", "sdpa")
    whole = estimate_test(giant, Request(is_all=True))
    assert whole > 10 * (estimate_test(small, Request()) + estimate_test(UNIT, Request()))
    assert whole > 5 * estimate_test(giant, Request())  # which are a few of its blocks
    assert estimate_test(RESTORE.format("dinov2_vitg14"), Request()) == 0


def test_work_goes_by_the_seconds_on_record() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    seconds = {
        name: int(found)
        for name, found in re.findall(r"^\| (\w+) \|.* (\d+) \|$", page, re.MULTILINE)
        if name in VARIANTS
    }
    assert set(seconds) == {row.backbone for row in VARIANTS.values()}  # a classifier is verified with its backbone
    models = group_tests(list_tests(*VARIANTS), Request(is_all=True, is_thorough=True))
    paces = {name: models[name].work / seconds[name] for name in seconds}
    assert max(paces.values()) < 2.5 * min(paces.values()), paces


def test_the_longest_model_is_not_divided_among_workers() -> None:
    done, short, long = Model(1.0, spent=60.0), Model(1.0, {"a"}), Model(10.0, {"b"})
    assert estimate_left([done, short, long], 8, 0.0) == 600
    assert estimate_left([done, short, short], 1, 0.0) == 120
    assert estimate_left([short, long], 8, 0.0) is None
    assert estimate_left([done], 8, 0.0) is None
