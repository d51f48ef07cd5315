"""Verdicts in short: taken from records and cards, written to a file and read again; and what is exact by them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.card import digest_of
from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict
from conversion.report import baseline
from conversion.report.baseline import (
    SCHEMA,
    InputResult,
    collect_cells,
    combine_versions,
    name_processor,
    name_source,
    read_baseline,
    was_exact,
    write_baseline,
)
from conversion.report.records import NOT_RUN, Record, Result
from tests.support.cells import PLACE, build_cell, build_inputs
from tests.support.verified import pick

GPU = "cuda/bfloat16/sdpa"
OFFSET = "position-embeddings-offset"


def rebuild(one: Result, **changed: Any) -> Result:
    """A result whose card has other entries."""
    card = {**(one.card or {}), **changed}
    return replace(one, card={**card, "digest": digest_of(card)})


def test_cells_are_what_the_cards_say(gathered: Record) -> None:
    cells = collect_cells(gathered)
    assert len(cells) == len(gathered.results)
    result = pick(gathered, "eager")
    cell = next(
        each for each in cells if each.place == PLACE and each.model.source.startswith("checkpoint, dinov2_tiny.pth ")
    )
    assert cell.processor == torch.backends.cpu.get_cpu_capability()
    assert (cell.model.variant, cell.model.blocks) == ("dinov2_custom", result.card and result.card["spec"]["depth"])
    assert cell.weights.keys() == {"model.safetensors"}
    assert cell.versions.keys() >= {"torch", "transformers", "original", "input seed"}
    masked = cell.inputs["masked"]
    assert masked.verdict is Verdict.CLOSE
    assert masked.otherwise == (OFFSET,)
    assert 1.0 < masked.error_ratio < 2.0
    assert masked.elements


def test_a_model_is_told_from_another_with_other_weights(gathered: Record) -> None:
    card = pick(gathered, "eager").card or {}
    assert name_source(card).startswith("checkpoint, dinov2_tiny.pth (SHA-256 ")
    drawn = {**card, "source": {**card["source"], "weights": "synthetic", "seed": 3}}
    assert name_source(drawn) == "synthetic, seed 3"
    assert name_source({**drawn, "baked_image_size": 224}) == "synthetic, seed 3, baked for 224"


def test_a_gpu_is_a_kind_of_processor_by_its_name() -> None:
    versions = {"cpu": "AVX512", "cuda": "13.0 on NVIDIA H100"}
    assert name_processor("cuda", versions) == "NVIDIA H100"
    assert name_processor("cpu", versions) == "AVX512"
    assert name_processor("cuda", {"cpu": "AVX2"}) == "AVX2"


def test_what_was_not_run_is_left_out_and_what_failed_is_told(gathered: Record) -> None:
    one = pick(gathered, "eager")
    absent = replace(one, card=None, message=NOT_RUN)
    crashed = replace(absent, message="test.py:3: in test\nE   MemoryError: no room\ntest.py:4: MemoryError")
    silent = replace(absent, message="")
    restored = replace(one, message="test_restore\nE   not the same bytes")
    assert collect_cells(Record(results=(absent,))) == ()
    assert [cell.failure for cell in collect_cells(Record(results=(crashed,)))] == ["MemoryError: no room"]
    assert [cell.failure for cell in collect_cells(Record(results=(silent,)))] == ["nothing was compared"]
    (cell,) = collect_cells(Record(results=(restored,)))
    assert cell.failure == "not the same bytes"
    assert cell.inputs


def test_two_results_of_one_cell_that_differ_are_refused(gathered: Record) -> None:
    one = pick(gathered, "eager")
    renewed = rebuild(one, versions={**(one.card or {})["versions"], "torch": "2.16.0"})
    assert len(collect_cells(Record(results=(one, renewed)))) == 1
    other = rebuild(one, result={"model.safetensors": "0" * 64})
    with pytest.raises(ArtifactError, match="two results of the same cell, which differ") as raised:
        collect_cells(Record(results=(one, other)))
    (problem,) = raised.value.problems
    assert problem.startswith("dinov2_custom, cpu/float32/eager, ")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    cells = (
        build_cell(inputs=build_inputs({"native": (OFFSET,)}, native=1.18, photo=1.0)),
        build_cell(place="cpu/float32/sdpa"),
        build_cell("dinov2_vits14_reg", 4),
        build_cell("dinov2_vits14_reg", 12),
    )
    path = tmp_path / "verdicts.json"
    assert write_baseline(path, cells) == (cells, ())
    assert set(map(str, read_baseline(path))) == set(map(str, cells))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema"] == SCHEMA
    model = content["processors"]["AVX512"]["models"][0]
    assert model["cells"][PLACE]["native"] == {"verdict": "close", "error_ratio": 1.18, "otherwise": [OFFSET]}
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.json"]


def test_each_kind_of_processor_has_a_record_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    write_baseline(path, [build_cell(), build_cell("dinov2_vitb14")])
    write_baseline(path, [build_cell(processor="AVX2")])
    assert {cell.processor for cell in read_baseline(path)} == {"AVX2", "AVX512"}
    written, dropped = write_baseline(path, [build_cell(torch="2.16.0")])
    assert [cell.versions["torch"] for cell in written] == ["2.16.0"]
    assert [cell.model.variant for cell in dropped] == ["dinov2_vitb14"]
    assert len(read_baseline(path)) == 2


def test_several_versions_of_one_kind_are_all_named(tmp_path: Path) -> None:
    cells = [build_cell(torch="2.16.0"), build_cell("dinov2_vitb14"), build_cell("dinov2_vitl14", torch="2.16.0")]
    write_baseline(tmp_path / "verdicts.json", cells)
    recorded = read_baseline(tmp_path / "verdicts.json")
    assert {cell.versions["torch"] for cell in recorded} == {"2.15.0 or 2.16.0"}
    assert combine_versions([*recorded, *cells])["torch"] == "2.15.0 or 2.16.0"


def test_what_came_to_no_verdict_is_not_put_on_record(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    crashed = build_cell("dinov2_vitb14", inputs={}, processor="", failure="no room")
    not_restored = build_cell("dinov2_vitl14", failure="not the same bytes")
    with pytest.raises(ArtifactError, match="nothing to put on record"):
        write_baseline(path, [crashed, not_restored])
    assert not path.exists()
    write_baseline(path, [build_cell(), crashed, not_restored])
    assert [cell.model.variant for cell in read_baseline(path)] == ["dinov2_vits14"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "parity-verdicts/1"}', '{"AVX2": {"verdicts": {}}}'])
def test_what_is_no_record_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"verdicts\.json: (is no file of verdicts|cannot be read)"):
        write_baseline(path, [build_cell()])
    assert path.read_text() == content


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of record: two variants on a CPU, one on a GPU."""
    monkeypatch.setattr(baseline, "RECORD", tmp_path / "verdicts.json")
    cells = [
        build_cell(inputs=build_inputs({"photo": (OFFSET,)}, native=1.0, photo=1.0)),
        build_cell(place=GPU, inputs=build_inputs(native=1.1)),
        build_cell("dinov2_vitg14", 4),
    ]
    write_baseline(baseline.RECORD, cells)
    return baseline.RECORD


@pytest.mark.parametrize(
    ("variant", "place", "processor", "expected"),
    [
        ("dinov2_vits14", PLACE, "AVX512", True),
        ("dinov2_vits14", PLACE, "AVX2", False),
        ("dinov2_vits14", GPU, "AVX512", False),
        ("dinov2_vits14", "cpu/float32/sdpa", "AVX512", False),  # this cell is not on record
        ("dinov2_vitg14", PLACE, "AVX512", True),  # shortened
        ("dinov2_vitl14", PLACE, "AVX512", False),  # not on record
        ("dinov2_custom", PLACE, "AVX512", True),  # as all of its family are
        ("dinov2_custom", GPU, "AVX512", False),
    ],
)
@pytest.mark.usefixtures("record")
def test_exact_was_reached_where_it_is_on_record(variant: str, place: str, processor: str, expected: bool) -> None:
    assert was_exact(variant, "dinov2", place, processor) is expected


@pytest.mark.parametrize("verdict", [Verdict.CLOSE, Verdict.FAILED])
def test_exact_was_not_reached_where_one_input_is_not(verdict: Verdict, record: Path) -> None:
    inputs = {**build_inputs(native=1.0), "masked": InputResult(verdict, 1.1)}
    write_baseline(record, [build_cell(inputs=inputs), build_cell("dinov2_vitb14")])
    assert not was_exact("dinov2_vits14", "dinov2", PLACE, "AVX512")
    assert was_exact("dinov2_vitb14", "dinov2", PLACE, "AVX512")
    assert not was_exact("dinov2_custom", "dinov2", PLACE, "AVX512")
    record.unlink()
    assert not was_exact("dinov2_vitb14", "dinov2", PLACE, "AVX512")


def test_every_variant_is_on_record() -> None:
    """On the kind of processor that has the most of them, every one; on the others, no name that is none."""
    cells = read_baseline(baseline.RECORD)
    assert {cell.model.variant for cell in cells if cell.processor == "AVX512"} == VARIANTS.keys()
    assert {cell.processor for cell in cells} >= {"AVX2", "AVX512", "DEFAULT"}
    for model in {(cell.processor, cell.model) for cell in cells}:
        places = {cell.place for cell in cells if (cell.processor, cell.model) == model}
        assert places >= {"cpu/float32/eager", "cpu/float32/sdpa"}, model
    for cell in cells:
        assert cell.versions["cpu"] == cell.processor
        assert cell.model.variant in VARIANTS
        assert cell.model.blocks <= VARIANTS[cell.model.variant].spec["depth"]  # type: ignore[operator]
        assert Verdict.FAILED not in {each.verdict for each in cell.inputs.values()}, cell.model
