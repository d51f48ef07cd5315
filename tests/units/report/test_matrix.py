"""The matrix of a report: what is one row, what is one column, and which verdict counts."""

from collections.abc import Iterator
from dataclasses import replace

from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.matrix import build_matrix, describe_versions
from conversion.report.records import Record, Result
from conversion.report.render import render_report
from tests.support.reports import NOW
from tests.support.verified import fail, pick


def test_a_row_is_a_model_and_a_column_a_cell(gathered: Record) -> None:
    columns, models = build_matrix(gathered.results)
    assert [column.attention for column in columns] == ["eager", "sdpa"]
    assert len(models) == 3  # of the same name, from other files
    assert len({model.anchor for model in models}) == 3
    assert all(len(model.results) == 2 for model in models)
    assert {model.origin for model in models} == {f"{name}.pth" for name in names_of(gathered)}


def names_of(record: Record) -> Iterator[str]:
    for result in record.results:
        assert result.card
        yield result.card["source"]["checkpoints"]["checkpoint"]["files"][0]["name"].removesuffix(".pth")


def test_cells_of_several_jobs_come_together(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    assert one.card
    half = {**one.card, "activations": [{**one.card["activations"][0], "dtype": "bfloat16"}]}
    columns, models = build_matrix([one, replace(one, dtype="bfloat16", card=half)])
    assert [column.dtype for column in columns] == ["float32", "bfloat16"]
    assert len(models) == 1


def test_other_versions_are_other_columns(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    assert one.card
    other = {**one.card, "versions": {**one.card["versions"], "torch": "9.9"}}
    columns, (model,) = build_matrix([one, replace(one, card=other)])
    assert len(columns) == len(model.results) == 2
    torch = one.card["versions"]["torch"]
    assert [column.versions for column in columns] == [f"torch {torch}", "torch 9.9"]  # what is the same is left out
    assert columns[1].lines == ("cpu", "float32", "sdpa", "torch 9.9")


def test_the_order_in_which_versions_stand_makes_no_other_column(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    assert one.card
    turned = {**one.card, "versions": dict(reversed(one.card["versions"].items()))}
    assert list(turned["versions"]) != sorted(turned["versions"])
    assert describe_versions(turned) == describe_versions(one.card)
    elsewhere = {**turned, "versions": {**turned["versions"], "torch": "9.9"}}
    results = [replace(one, card=card) for card in (one.card, turned, elsewhere)]
    columns, (model,) = build_matrix(results)
    assert len(columns) == len(model.results) == 2
    page = render_report(Record((), tuple(results[:2])), NOW)
    assert page.count("<dt>Versions</dt>") == 1


def test_models_that_failed_come_first(gathered: Record) -> None:
    same = replace(pick(gathered, "sdpa"), variant="dinov2_vits14")
    crashed = Result("dinov2_vitg14", "cpu", "float32", "sdpa", "official weights", message="worker 'gw0' crashed")
    _, models = build_matrix([same, crashed])
    assert [model.variant for model in models] == ["dinov2_vitg14", "dinov2_vits14"]


def test_the_cell_that_decides_has_figures_if_any_has(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    lost = replace(one, attention="eager", card=None, message="it crashed")
    off = fail(one, PointVerdict("pixels", Verdict.FAILED, Distance(1.0, 0.5), reason="off"))
    _, (model,) = build_matrix([off, lost])
    assert model.deciding.attention == "sdpa"
    _, (model,) = build_matrix([one, lost])
    assert model.deciding.attention == "eager"


def test_of_two_verdicts_in_a_cell_the_worse_counts(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    failed = replace(one, message="it was off")
    for results in ([one, failed], [failed, one]):
        _, (model,) = build_matrix(results)
        assert model.verdict is Verdict.FAILED


def test_what_was_not_compared_is_failed_and_goes_with_its_model(gathered: Record) -> None:
    one = replace(pick(gathered, "sdpa"), variant="dinov2_vits14")
    crashed = Result("dinov2_vits14", "cpu", "float32", "eager", one.origin, message="worker 'gw0' crashed")
    _, (model,) = build_matrix([crashed, one])
    assert model.card == one.card
    assert model.verdict is Verdict.FAILED
    # of another file it is another model's
    _, models = build_matrix([replace(crashed, origin="other.pth"), one])
    assert [(model.origin, model.verdict) for model in models] == [
        ("other.pth", Verdict.FAILED),
        (one.origin, one.verdict),
    ]


def test_a_cell_that_crashed_once_keeps_the_figures_of_the_other_time(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    crashed = replace(one, card=None, message="it crashed")
    for results in ([one, crashed], [crashed, one]):
        _, (model,) = build_matrix(results)
        (result,) = model.results.values()
        assert result.verdict is Verdict.FAILED
        assert result.card == one.card
        assert result.message == "it crashed"
