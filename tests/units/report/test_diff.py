"""What changed between two runs, on cells that are made up: what has to be noticed, and what must not be."""

from dataclasses import replace
from pathlib import Path

import pytest

from conversion.errors import ArtifactError
from conversion.parity.verdict import Verdict
from conversion.report.baseline import Cell, InputResult, Model
from conversion.report.diff import INPUT, OTHERWISE, RATIO, TEST, VERDICT, Change, compare_runs, read_side
from conversion.report.diff_text import write_lines, write_markdown
from tests.support.cells import PLACE, build_cell, build_inputs

NEWER = "2.16.0"
OFFSET = "position-embeddings-offset"


def list_changes(before: Cell, now: Cell) -> list[tuple[str, str, str | float, str | float]]:
    """Input, what, before and now."""
    return [(each.input, each.what, each.before, each.now) for each in compare_runs([before], [now]).changes]


def test_the_same_results_are_no_change() -> None:
    diff = compare_runs([build_cell()], [build_cell(torch=NEWER)])
    assert diff.changes == ()
    assert (diff.compared, diff.not_run, diff.added) == (1, 0, 0)


def test_that_the_weights_are_others_is_said() -> None:
    before = build_cell()
    now = replace(before, model=replace(before.model, source="mine.pth"))
    said = " ".join(" ".join(write_lines(compare_runs([before], [now]))).split())
    assert f"mine.pth; before: {before.model.variant}, {before.model.source}. The weights were not compared." in said
    assert "Another model" not in " ".join(write_lines(compare_runs([before], [before])))


def test_an_error_ratio_that_nears_what_is_close_no_more_is_noticed() -> None:
    before, now = build_cell(inputs=build_inputs(native=1.02)), build_cell(inputs=build_inputs(native=1.9), torch=NEWER)
    assert list_changes(before, now) == [("native", RATIO, 1.02, 1.9)]
    assert list_changes(now, before) == [("native", RATIO, 1.9, 1.02)]


@pytest.mark.parametrize("changed", [{"processor": "AVX2"}, {"torch": NEWER}, {"blocks": 4}])
def test_an_error_ratio_that_other_roundings_give_is_no_change(changed: dict[str, str | int]) -> None:
    before = build_cell(inputs=build_inputs(native=1.06))
    assert list_changes(before, build_cell(inputs=build_inputs(native=1.08), **changed)) == []


def test_nothing_may_differ_where_it_was_run_as_before() -> None:
    before, now = (build_cell(inputs=build_inputs(native=ratio)) for ratio in (1.06, 1.08))
    assert list_changes(before, now) == [("native", RATIO, 1.06, 1.08)]
    versions = before.versions | {"torch": "2.15.0 or 2.16.0"}  # nobody knows which of them
    assert list_changes(replace(before, versions=versions), replace(now, versions=versions)) == []


def test_chance_is_allowed_more_where_few_elements_decide() -> None:
    before = build_cell(inputs=build_inputs(native=1.02))
    for elements, is_noticed in ((10, False), (384, True), (10**6, True)):
        now = build_cell(inputs=build_inputs(native=1.9, elements=elements), torch=NEWER)
        assert bool(list_changes(before, now)) is is_noticed, elements
    now = build_cell(inputs=build_inputs(native=1.5, elements=384), torch=NEWER)
    assert list_changes(before, now) == []
    assert list_changes(before, replace(now, inputs=build_inputs(native=1.5))) != []


@pytest.mark.parametrize(("before", "now"), [((), (OFFSET,)), ((OFFSET,), ()), (("a",), ("a", "b"))])
def test_what_transformers_does_otherwise_comes_and_goes(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    cells = [build_cell(inputs=build_inputs({"photo": names}, native=1.0, photo=1.0)) for names in (before, now)]
    expected = [("photo", OTHERWISE, ", ".join(before) or "none", ", ".join(now) or "none")]
    assert list_changes(cells[0], cells[1]) == expected
    assert list_changes(cells[0], replace(cells[1], processor="AVX2")) == expected
    smaller = replace(cells[1], model=replace(cells[1].model, image_size=224))
    assert list_changes(cells[0], smaller) == []  # a shortened model resamples on other inputs


def test_exact_that_became_close_is_told_with_its_figure() -> None:
    now = build_cell(inputs=build_inputs(native=1.18, photo=1.0), torch=NEWER)
    assert list_changes(build_cell(), now) == [("native", VERDICT, "exact", "close"), ("native", RATIO, 1.0, 1.18)]


@pytest.mark.parametrize("changed", [{"processor": "AVX2"}, {"blocks": 4}])
def test_another_processor_or_model_may_round_otherwise_but_not_fail(changed: dict[str, str | int]) -> None:
    close = build_cell(inputs=build_inputs(native=1.18, photo=1.0), **changed)
    assert list_changes(build_cell(), close) == []
    failed = {"native": InputResult(Verdict.FAILED, 1.18), "photo": InputResult(Verdict.EXACT, 1.0)}
    assert (("native", VERDICT, "exact", "failed")) in list_changes(build_cell(), replace(close, inputs=failed))
    (change,) = compare_runs(
        [build_cell()], [build_cell(inputs=build_inputs(native=1.9, photo=1.0), **changed)]
    ).changes
    assert change.what == RATIO
    assert change.beside == ("AVX512" if "processor" in changed else "dinov2_vits14")


def test_the_same_kind_of_processor_and_the_same_model_come_first() -> None:
    close = build_inputs(native=1.9, photo=1.0)
    baseline = [
        build_cell(),
        build_cell(processor="AVX2", inputs=close),
        build_cell(blocks=4, inputs=close),
        build_cell(processor="AVX2", blocks=4),
    ]
    for cell in baseline:
        assert compare_runs(baseline, [cell]).changes == (), cell.key
        assert compare_runs(baseline[::-1], [cell]).changes == (), cell.key


def test_weights_are_held_against_those_of_the_same_model_and_processor_once() -> None:
    now = [build_cell(weights={"model.safetensors": "b" * 64}, place=place) for place in (PLACE, "cpu/float32/sdpa")]
    before = [build_cell(), build_cell(place="cpu/float32/sdpa")]
    assert compare_runs(before, now).changes == (
        Change("dinov2_vits14", "", "AVX512", "", "SHA-256 of model.safetensors", "a" * 64, "b" * 64),
    )
    others = [replace(cell, model=Model("dinov2_vits14", 12, 518, "pretrained")) for cell in now]
    assert compare_runs(before, others).changes == ()
    assert compare_runs(before, [replace(cell, processor="AVX2") for cell in now]).changes == ()


def test_only_what_was_run_is_compared() -> None:
    baseline = [build_cell(), build_cell("dinov2_vitb14"), build_cell(place="cuda/float32/eager"), build_cell("new")]
    diff = compare_runs([*baseline, build_cell(processor="AVX2")], [build_cell(), build_cell("dinov2_vitg14", 4)])
    assert diff.changes == ()
    assert (diff.compared, diff.not_run, diff.added) == (1, 3, 1)


def test_an_input_that_is_gone_or_new_in_a_cell_that_was_run_is_a_change() -> None:
    now = build_cell(inputs=build_inputs(native=1.0, masked=1.2))
    expected = [("native", "photo", INPUT, "exact", "none"), ("native", "masked", INPUT, "none", "close")]
    assert sorted(list_changes(build_cell(), now)) == sorted(each[1:] for each in expected)
    assert list_changes(build_cell(blocks=4), now) == []  # a shortened model may have others


def test_a_test_that_compared_nothing_is_told() -> None:
    crashed = build_cell(
        processor="", model=Model("dinov2_vits14", 0, 0, "x"), versions={}, weights={}, inputs={}, failure="no memory"
    )
    assert list_changes(build_cell(), crashed) == [("", TEST, "passed", "failed (no memory)")]
    assert list_changes(crashed, build_cell()) == [("", TEST, "failed (no memory)", "passed")]
    assert list_changes(crashed, crashed) == []
    (change,) = compare_runs([build_cell()], [crashed]).changes
    assert change.processor == "AVX512"


def test_nothing_in_common_is_refused_with_what_there_is() -> None:
    with pytest.raises(ArtifactError, match="no variant was run in the same cell in both") as raised:
        compare_runs([build_cell()], [build_cell("dinov2_vitb14")])
    assert raised.value.problems == (
        "BASELINE: dinov2_vits14 on cpu/float32/eager",
        "NEW: dinov2_vitb14 on cpu/float32/eager",
    )


def test_the_versions_of_both_sides_are_named() -> None:
    before, now = build_cell(), build_cell(inputs=build_inputs(native=1.18, photo=1.0), torch=NEWER)
    text = "\n".join(write_lines(compare_runs([before, build_cell("dinov2_vitb14")], [now])))
    assert text == (
        "2 things changed in the 1 cell that was compared.\n\n"
        "dinov2_vits14 on cpu/float32/eager, AVX512\n"
        "  native: verdict close, was exact; error ratio 1.18, was 1\n\n"
        "Versions, AVX512\n"
        "  torch 2.16.0, was 2.15.0\n"
        "  the same: cpu AVX512, transformers 5.23.0\n\n"
        "Not run: 1 cell of the baseline."
    )


@pytest.mark.parametrize(("many", "said"), [(1, "1 cell"), (2, "2 cells")])
def test_what_the_baseline_has_no_result_of_is_counted(many: int, said: str) -> None:
    others = [build_cell("dinov2_vitb14"), build_cell("dinov2_vitl14")][:many]
    lines = list(write_lines(compare_runs([build_cell()], [build_cell(), *others])))
    assert lines[0] == "Nothing changed in the 1 cell that was compared."
    assert lines[-1] == f"Not compared: {said} that the baseline has no result of."


def test_markdown_has_a_table_of_changes_and_one_of_versions() -> None:
    before = build_cell("dinov2_vitg14", 4)
    now = build_cell("dinov2_vitg14", 4, NEWER, inputs=build_inputs({"native": ("a|b",)}, native=1.0, photo=1.0))
    lines = write_markdown(compare_runs([before], [now])).splitlines()
    assert lines[0] == "1 thing changed in the 1 cell that was compared."
    row = "dinov2_vitg14 (4 of 40 blocks) | cpu/float32/eager | AVX512 | native | transformers does otherwise"
    assert f"| {row} | none | a\\|b |  |" in lines
    assert "| AVX512 | torch | 2.15.0 | 2.16.0 |" in lines


def test_lines_are_80_columns_wide_at_most() -> None:
    names = tuple(f"something-that-has-a-long-name-{number}" for number in range(4))
    before = build_cell("data2vec_vision_large_ade20k", 4, weights={"model.safetensors": "c" * 64})
    inputs = build_inputs({"native": names}, native=1.9, photo=1.0)
    lines = list(write_lines(compare_runs([before], [build_cell("data2vec_vision_large_ade20k", 4, inputs=inputs)])))
    assert max(map(len, lines)) <= 80
    assert "  SHA-256 of model.safetensors aaaaaaaaaaaa, was cccccccccccc" in lines


def test_a_side_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "verdicts.json").write_text('{"schema": "parity-verdicts/2", "processors": []}')
    with pytest.raises(ArtifactError, match=r"verdicts\.json: is no file of verdicts by parity-verdicts/2"):
        read_side(tmp_path / "verdicts.json")
    (tmp_path / "parity.json").write_text("{")
    for path, reason in (
        (tmp_path / "parity.json", "cannot be read"),
        (tmp_path / "absent", "there is no such file or folder"),
        (tmp_path, "parity.json: cannot be read"),
    ):
        with pytest.raises(ArtifactError, match="cannot be compared") as raised:
            read_side(path)
        (problem,) = raised.value.problems
        assert reason in problem
