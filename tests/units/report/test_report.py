"""Reports: what is gathered, what is brought together, and what stands on the page."""

import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path

import pytest
from markupsafe import escape

from conversion.artifact.answer import build_answer, describe_off
from conversion.artifact.card_points import read_points
from conversion.cli.app import main
from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.charts import HEIGHT, WIDTH
from conversion.report.records import Picture, Record
from conversion.report.render import render_report, write_report
from conversion.report.tables import count_points, list_charts, list_keys, list_points, summarise
from tests.support.reports import NOW
from tests.support.verified import fail, pick

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


def test_a_column_of_seconds_is_shown_where_they_are_known(gathered: Record) -> None:
    """A verification card does not tell how long a conversion took."""
    first, *others = gathered.results
    two = replace(first, variant="another")
    heading = '<button type="button">seconds</button>'
    assert heading not in render_report(replace(gathered, results=(first, *others, two)), NOW)
    assert heading in render_report(replace(gathered, results=(replace(first, seconds=2.0), *others, two)), NOW)


UNDRAWABLE = [
    PointVerdict("pixels", Verdict.FAILED, reason="the converted has NaN or Inf"),
    PointVerdict("pixels", Verdict.FAILED, Distance(nan, inf), reason="off"),
]


@pytest.mark.parametrize("point", UNDRAWABLE)
def test_what_failed_without_figures_is_not_called_the_same(point: PointVerdict, gathered: Record) -> None:
    result = fail(pick(gathered, "sdpa"), point)
    assert list_charts(result) == {}
    assert summarise(result).text == "first at pixels"
    page = render_report(Record((), (result,)), NOW)
    assert "Every bit is the same at every" not in page
    assert "cannot be subtracted" in page
    assert point.reason in page


def test_what_failed_is_marked_where_it_is_drawn(gathered: Record) -> None:
    result = pick(gathered, "eager")
    assert result.card
    card = json.loads(json.dumps(result.card))
    native = card["activations"][0]["inputs"][0]
    for index in (9, -1):  # one has figures, by its largest error
        row = native["points"][index]
        native["points"][index] = [row, "failed"] if isinstance(row, str) else [row[0], "failed", *row[2:]]
    chart = list_charts(replace(result, card=card))["native"]
    assert len(chart.failed) == 2
    assert chart.failed == (chart.failed[0], max(chart.failed))


def test_capture_points_are_told_where_they_are_worst(gathered: Record) -> None:
    result = pick(gathered, "eager")
    rows = {row.verdict.point: row for row in list_points(result)}
    assert list(rows)[:2] == ["pixels", "embeddings"]
    ratios = {}
    for each in result.inputs:
        for point in read_points(each["points"], result.dtype):
            if point.point == "block.1" and point.converted_error and point.original_error:
                ratios[each["input"]] = point.converted_error.rms / point.original_error.rms
    assert len(set(ratios.values())) > 1
    assert rows["block.1"].verdict.error_ratio == max(ratios.values())
    assert ratios[rows["block.1"].input] == rows["block.1"].verdict.error_ratio


def test_capture_points_are_counted_by_verdict(gathered: Record) -> None:
    rows = list_points(pick(gathered, "eager"))
    exact = sum(row.verdict.verdict is Verdict.EXACT for row in rows)
    assert 0 < exact < len(rows)
    assert count_points(rows) == f"{exact} exact, {len(rows) - exact} close"


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
    assert "otherwise" in drawn["non_square"].lines
    assert "otherwise" not in drawn["native"].lines


def test_nothing_is_drawn_where_every_bit_is_the_same(gathered: Record) -> None:
    exact = [each for each in gathered.results if each.verdict is Verdict.EXACT]
    result = next(each for each in exact if not any("otherwise" in one for one in each.inputs))
    assert list_charts(result) == {}
    assert summarise(result).text == "0 ULP"
    assert "at every capture point of every input: 0 ULP" in render_report(Record((), (result,)), NOW)


def test_what_transformers_does_otherwise_is_told_with_its_size_and_what_to_do(gathered: Record) -> None:
    result = pick(gathered, "eager")
    assert result.card
    (entry, *_) = build_answer(result.card).otherwise
    assert max(off.max_abs for off in entry.sizes.values()) > 1e-3
    page = render_report(Record((), (result,)), NOW)
    for text in (entry.name, entry.where, entry.cause, entry.remedy.partition("--")[0], describe_off(entry)):
        assert str(escape(text)) in page
    assert "ULP" not in page  # of what is not exact, it says nothing


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
    assert capsys.readouterr().out == f"{target}: 3 models, 3 close\n"
    assert target.read_text().count('<details class="model"') == 3
    assert [path.name for path in target.parent.iterdir()] == ["all.html"]


def test_the_command_counts_one_model(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(made["dinov2_tiny"]), f"--output={tmp_path / 'one.html'}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'one.html'}: 1 model, 1 close\n"


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
