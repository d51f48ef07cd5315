"""Reports: what is gathered, what is brought together, and what stands on the page."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conversion.__main__ import main
from conversion.card import digest_of
from conversion.errors import ArtifactError
from conversion.loading import PARITY_CARD
from conversion.parity.verdict import Verdict
from conversion.report.charts import HEIGHT, WIDTH
from conversion.report.matrix import build_matrix
from conversion.report.records import Picture, Record, Result, gather, write_record
from conversion.report.render import render_report
from conversion.report.tables import list_charts, list_deviations, list_keys, list_points, summarise
from tests.verified import edit

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
PICTURE = Picture("Pixels", {"original": "aGVsbG8="}, "All the same.", (("", "class"), ("1", "cat")))


@pytest.fixture
def gathered(made: dict[str, Path]) -> Record:
    return gather(made.values())


def read_card(artifact: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((artifact / PARITY_CARD).read_text())
    return card


def pick(record: Record, attention: str, family: str = "dinov2") -> Result:
    """Of the first model of a family: its verdict in a cell."""
    return next(each for each in record.results if each.attention == attention and each.card["family"] == family)  # type: ignore[index]


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


def test_every_card_of_a_folder_is_gathered_and_other_files_are_not(made: dict[str, Path]) -> None:
    folder = next(iter(made.values())).parents[1]
    record = gather([folder])
    assert len(record.results) == 2 * len(made)
    assert {result.attention for result in record.results} == {"eager", "sdpa"}


def test_a_record_comes_back_as_it_was_written(gathered: Record, tmp_path: Path) -> None:
    (first,) = gathered.results[:1]
    card = {**first.card, "digest": digest_of(first.card)}  # type: ignore[dict-item, arg-type]
    record = Record(("pytest -n 2",), (replace(first, seconds=1.5, card=card, pictures=(PICTURE,)),))
    write_record(record, tmp_path / "report.json")
    assert gather([tmp_path]) == json_like(record)


def json_like(record: Record) -> Record:
    """Without the tuples that JSON has no word for."""
    return replace(
        record, results=tuple(replace(each, card=json.loads(json.dumps(each.card))) for each in record.results)
    )


def test_what_an_artifact_tells_again_counts_once(made: dict[str, Path], tmp_path: Path) -> None:
    artifact = made["dinov2_tiny"]
    (told, *_) = gather([artifact]).results
    card = {**told.card, "digest": digest_of(told.card)}  # type: ignore[dict-item, arg-type]
    write_record(Record(("pytest",), (replace(told, seconds=3.0, card=card),)), tmp_path / "report.json")
    for paths in ([artifact, tmp_path], [tmp_path, artifact]):
        results = gather(paths).results
        assert len(results) == 2
        assert [each.seconds for each in results if each.attention == told.attention] == [3.0]


def spoil(text: str) -> str:
    return text[: len(text) // 2]


def test_what_is_damaged_or_contradicts_itself_is_refused_all_at_once(made: dict[str, Path], tmp_path: Path) -> None:
    for name in ("cut", "edited", "older", "unknown"):
        shutil.copytree(made["dinov2_tiny"], tmp_path / name)
    (tmp_path / "cut" / PARITY_CARD).write_text(spoil((tmp_path / "cut" / PARITY_CARD).read_text()))
    edit(tmp_path / "edited", lambda card: card.update(verdict="exact"))
    edit(tmp_path / "older", lambda card: card.update(schema="parity-card/1"))
    edit(tmp_path / "unknown", lambda card: card.update(family="resnet"))
    (tmp_path / "bad.json").write_text('{"schema": "parity-run/1", "commands": []}')
    with pytest.raises(ArtifactError) as raised:
        gather([tmp_path])
    for part in (
        "cut/parity.json: cannot be read",
        "by its parts deviation",
        "'parity-card/1'",
        "no model that is known",
    ):
        assert part in str(raised.value)
    assert "'results' is a required property" in str(raised.value)


def test_nothing_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="Nothing was recorded"):
        gather([tmp_path])


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
    crashed = Result("dinov2_vits14", "cpu", "float32", "eager", message="worker 'gw0' crashed")
    _, (model,) = build_matrix([crashed, one])
    assert model.card == one.card
    assert model.verdict is Verdict.FAILED
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
    assert main(["report", str(tmp_path)]) == 1
    assert "Nothing was recorded" in capsys.readouterr().err
