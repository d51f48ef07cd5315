"""Reports: what is gathered, what is brought together, and what stands on the page."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conversion.cli.app import main
from conversion.parity.verdict import Verdict
from conversion.report.charts import HEIGHT, WIDTH
from conversion.report.matrix import build_matrix
from conversion.report.records import Picture, Record, Result
from conversion.report.render import render_report, write_report
from conversion.report.tables import list_charts, list_deviations, list_keys, list_points, summarise
from tests.support.verified import pick

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
PICTURE = Picture("Pixels", {"original": "aGVsbG8="}, "All the same.", (("", "class"), ("1", "cat")))


class Page(HTMLParser):
    """Elements that are never closed or never opened, ids, links, and what would be loaded."""

    VOID = frozenset({"meta", "link", "img", "br", "wbr", "input", "path", "polygon", "polyline", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [named["id"] or ""] if "id" in named else []
        if tag == "a":
            self.links.add(named.get("href") or "")
        self.loaded += [named[name] or "" for name in ("src", "srcset", "data") if name in named]
        if tag == "link":
            self.loaded.append(named["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def test_the_page_is_whole_and_loads_nothing(gathered: Record) -> None:
    with_picture = replace(gathered.results[0], pictures=(PICTURE,))
    page = Page(render_report(replace(gathered, results=(with_picture, *gathered.results[1:])), NOW))
    assert (page.open, page.wrong) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert [address for address in page.loaded if not address.startswith("data:")] == []
    assert len([address for address in page.loaded if address.startswith("data:image/png")]) == 1


def fail(result: Result, **figures: Any) -> Result:
    """The same with its first capture points failed, without figures or with."""
    assert result.card
    card = json.loads(json.dumps(result.card))
    for each in card["activations"][0]["inputs"]:
        for name in ("points", "counterfactual"):
            if name in each:
                each[name] = [{"point": point["point"], "verdict": "failed", **figures} for point in each[name]]
        each |= {"verdict": "failed", "max_ulp": 0, "max_abs": None, "error_ratio": 1}
    card["verdict"] = card["activations"][0]["verdict"] = "failed"
    return replace(result, card=card, message="not the same model")


@pytest.mark.parametrize(
    "figures",
    [
        {"reason": "the converted has NaN or Inf"},
        {"difference": {"max_abs": float("nan"), "rms": float("inf"), "max_ulp": 0}, "reason": "off"},
    ],
)
def test_what_failed_without_figures_is_not_called_the_same(figures: dict[str, Any], gathered: Record) -> None:
    result = fail(pick(gathered, "sdpa"), **figures)
    assert list_charts(result) == {}
    assert summarise(result).text == "first at pixels"
    page = render_report(Record((), (result,)), NOW)
    assert "Every bit is the same" not in page
    assert "cannot be held against each other" in page
    assert figures["reason"] in page


def test_what_failed_is_marked_where_it_is_drawn(gathered: Record) -> None:
    result = pick(gathered, "eager")
    assert result.card
    card = json.loads(json.dumps(result.card))
    native = card["activations"][0]["inputs"][0]
    native["points"][9]["verdict"] = native["points"][-1]["verdict"] = "failed"  # one has figures, by its largest error
    chart = list_charts(replace(result, card=card))["native"]
    assert len(chart.failed) == 2
    assert chart.failed == (chart.failed[0], max(chart.failed))


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
    assert "torch 9.9" in columns[1].versions


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
        (one.origin, one.verdict),
        ("other.pth", Verdict.FAILED),
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


def test_what_crashed_before_a_comparison_is_on_the_page() -> None:
    crashed = Result("dinov2_vits14", "cpu", "float32", "eager", "official weights", message="worker 'gw0' crashed")
    page = render_report(Record((), (crashed,)), NOW)
    assert "1 of 1 models is not shown to be the same model" in page
    assert "worker &#39;gw0&#39; crashed" in page


def test_capture_points_are_told_where_they_are_worst(gathered: Record) -> None:
    result = pick(gathered, "eager")
    rows = {row.name: row for row in list_points(result)}
    assert list(rows)[:2] == ["pixels", "embeddings"]
    of_block = {
        each["input"]: point["converted_error"]["rms"] / point["original_error"]["rms"]
        for each in result.inputs
        for point in each.get("counterfactual") or each["points"]
        if point["point"] == "block.1" and "converted_error" in point
    }
    assert rows["block.1"].ratio == max(of_block.values())
    assert of_block[rows["block.1"].input] == rows["block.1"].ratio


def height(place: str) -> float:
    return float(place.split(",")[1])


def test_errors_are_drawn_within_the_page_and_in_their_order(gathered: Record) -> None:
    drawn = list_charts(pick(gathered, "eager"))
    assert "native" in drawn
    for chart in drawn.values():
        assert {"converted", "original"} <= chart.lines.keys()
        for part in [part for parts in chart.lines.values() for part in parts] + list(chart.band):
            places = [tuple(map(float, place.split(","))) for place in part.split()]
            assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        for part in (part for parts in chart.lines.values() for part in parts):
            across = [float(place.split(",")[0]) for place in part.split()]
            assert across == sorted(across)
        for band, converted, original in zip(
            chart.band, chart.lines["converted"], chart.lines["original"], strict=True
        ):
            tops = band.split()[1:-1]  # but for the two corners at the bottom; the higher, the smaller
            for line in (converted, original):
                assert all(height(top) <= height(place) for top, place in zip(tops, line.split(), strict=True))
        heights = [y for y, _ in chart.rows]
        assert heights == sorted(heights, reverse=True)  # the larger, the higher
        assert chart.exact
    assert "as_it_is" in drawn["non_square"].lines  # the known deviation, beside its counterfactual


def test_nothing_is_drawn_where_every_bit_is_the_same(gathered: Record) -> None:
    result = next(each for each in gathered.results if each.verdict is Verdict.EXACT)
    assert list_charts(result) == {}
    assert summarise(result).text == "0 ULP"


def test_deviations_are_told_with_their_counterfactual(gathered: Record) -> None:
    _, models = build_matrix(gathered.results)
    rows = {row.entry.name: row for model in models for row in list_deviations(model)}
    assert {"position-embeddings-offset", "feature-memory-layout"} <= rows.keys()
    size, verdict = rows["position-embeddings-offset"].inputs["non_square"]
    assert size > 1e-3
    assert verdict is Verdict.CLOSE
    assert "interpolate_offset=0" in render_report(gathered, NOW)


def test_keys_are_told_as_patterns(gathered: Record) -> None:
    rows = {row.original: row for row in list_keys(pick(gathered, "sdpa").card)}  # type: ignore[arg-type]
    assert rows["blocks.{}.attn.qkv.weight"].action == "split into 3"
    assert len(rows["blocks.{}.attn.qkv.weight"].converted) == 3
    assert rows["norm.weight"].action == "renamed"
    segmentation = pick(gathered, "sdpa", "data2vec_vision").card
    dropped = [row for row in list_keys(segmentation) if row.action.startswith("dropped: ")]  # type: ignore[arg-type]
    assert any("{}" in row.original for row in dropped)
    assert all(not row.converted for row in dropped)


def test_what_comes_from_a_record_is_text_and_not_html(gathered: Record) -> None:
    hostile = replace(pick(gathered, "sdpa"), variant="<script>alert(1)</script>", message="<img src=x onerror=a>")
    page = render_report(Record(("pytest '<b>'",), (hostile,)), NOW)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<b>&#39;" not in page


def test_the_command_writes_a_report_of_folders(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "all.html"
    assert main(["report", *map(str, made.values()), f"--output={target}"]) == 0
    assert capsys.readouterr().out == f"{target}: 3 models, 1 close, 2 deviation\n"
    assert target.read_text().count('<details class="model"') == 3
    assert [path.name for path in target.parent.iterdir()] == ["all.html"]


def test_the_command_refuses_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), f"--output={tmp_path / 'report.html'}"]) == 2
    assert "nothing was recorded there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report.json", "report", ".", "taken.html", "file/report.html", "fifo.html"])
def test_the_command_writes_over_nothing_else(
    name: str, made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.html").write_text("<p>mine</p>")
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "fifo.html")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(made["dinov2_tiny"]), f"--output={tmp_path / name}"]) == 2
    assert f"--output {tmp_path / name}: " in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.html").read_text() == "<p>mine</p>"


def test_the_command_writes_over_its_own(made: dict[str, Path], tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["report", str(made["dinov2_tiny"]), f"--output={tmp_path / 'report.html'}"]) == 0


def test_a_name_of_other_bytes_can_be_written(gathered: Record, tmp_path: Path) -> None:
    record = Record(("pytest --checkpoint=caf\udce9.pth",), gathered.results)
    write_report(record, tmp_path / "report.html")
    assert "caf\\udce9" in (tmp_path / "report.html").read_text()
