"""A run's verdicts beside those on record, on cards that are made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.card import SCHEMA, MatrixVerdict, Provenance, build_parity_card
from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.report import history as verdicts
from conversion.report.history import collect, find_changes, main, read_record, render, was_exact
from tests.units.artifact.test_artifact import convert

CPU = ("cpu", "float32", "eager")
GPU = ("cuda:1", "bfloat16", "sdpa")
EXACT = {"native": "exact", "photo": "exact"}


def write_card(
    folder: Path,
    cells: Mapping[tuple[str, str, str], Mapping[str, str]],
    variant: str = "dinov2_vits14",
    torch: str = "2.15.0",
    cpu: str = "AVX512",
) -> Path:
    """What of a ``parity.json`` is read here, in an artifact's folder."""
    card = {
        "schema": SCHEMA,
        "variant": variant,
        "versions": {"torch": torch, "transformers": "5.23.0", "cpu": cpu},
        "activations": [
            {
                "device": device,
                "dtype": dtype,
                "attention": attention,
                "inputs": [{"input": name, "verdict": verdict} for name, verdict in inputs.items()],
            }
            for (device, dtype, attention), inputs in cells.items()
        ],
    }
    path = folder / variant / "parity.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(card), encoding="utf-8")
    return path


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of record: two variants on a CPU, one on a GPU."""
    monkeypatch.setattr(verdicts, "RECORD", tmp_path / "verdicts.json")
    write_card(tmp_path / "before", {CPU: EXACT, GPU: {"native": "close"}})
    write_card(tmp_path / "before", {CPU: EXACT}, "dinov2_vitb14")
    assert main([str(tmp_path / "before"), "--record"]) == 0
    return tmp_path / "verdicts.json"


def test_what_is_recorded_is_what_the_cards_say(record: Path) -> None:
    assert json.loads(record.read_text(encoding="utf-8")) == {
        "AVX512": {
            "versions": {"torch": "2.15.0", "transformers": "5.23.0", "cpu": "AVX512"},
            "verdicts": {
                "dinov2_vits14": {"cpu/float32/eager": EXACT, "cuda/bfloat16/sdpa": {"native": "close"}},
                "dinov2_vitb14": {"cpu/float32/eager": EXACT},
            },
        }
    }


def test_each_kind_of_processor_has_a_record_of_its_own(record: Path, tmp_path: Path) -> None:
    before = json.loads(record.read_text(encoding="utf-8"))["AVX512"]
    write_card(tmp_path / "now", {CPU: {"native": "close"}}, cpu="AVX2")
    assert main([str(tmp_path / "now"), "--record"]) == 0
    after = json.loads(record.read_text(encoding="utf-8"))
    assert after["AVX512"] == before
    assert after["AVX2"]["verdicts"] == {"dinov2_vits14": {"cpu/float32/eager": {"native": "close"}}}
    assert main([str(tmp_path / "now")]) == 1  # dinov2_vitb14 left no card, on whatever processor


def test_what_another_kind_of_processor_rounds_otherwise_is_no_change(record: Path, tmp_path: Path) -> None:
    write_card(tmp_path / "now", {CPU: {"native": "close", "photo": "exact"}}, cpu="AVX2")
    write_card(tmp_path / "now", {CPU: EXACT}, "dinov2_vitb14")
    assert find_changes(read_record(), collect(tmp_path / "now")) == []
    write_card(tmp_path / "later", {CPU: {"native": "deviation", "photo": "exact"}}, cpu="AVX2")
    write_card(tmp_path / "later", {CPU: {**EXACT, "native": "close"}}, "dinov2_vitb14")
    assert find_changes(read_record(), collect(tmp_path / "later")) == [
        ("dinov2_vitb14", "cpu/float32/eager", "AVX512", "native", "exact", "close"),
        ("dinov2_vits14", "cpu/float32/eager", "AVX2", "native", "exact", "deviation"),
    ]


@pytest.mark.parametrize(
    ("variant", "cell", "processor", "expected"),
    [
        ("dinov2_vits14", "cpu/float32/eager", "AVX512", True),
        ("dinov2_vits14", "cpu/float32/eager", "AVX2", False),
        ("dinov2_vits14", "cuda/bfloat16/sdpa", "AVX512", False),
        ("dinov2_vitl14", "cpu/float32/eager", "AVX512", False),  # not on record
        ("dinov2_custom", "cpu/float32/eager", "AVX512", True),  # as all of its family are
        ("dinov2_custom", "cuda/bfloat16/sdpa", "AVX512", False),
    ],
)
def test_exact_was_reached_where_it_is_on_record(
    variant: str, cell: str, processor: str, expected: bool, record: Path
) -> None:
    assert was_exact(variant, "dinov2", cell, processor) is expected


@pytest.mark.parametrize("verdict", ["close", "failed"])
def test_exact_was_not_reached_where_one_input_is_not(
    verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "RECORD", tmp_path / "verdicts.json")
    assert not was_exact("dinov2_vits14", "dinov2", "cpu/float32/eager", "AVX512")
    write_card(tmp_path / "a", {CPU: {"native": "exact", "224": "deviation"}})
    main([str(tmp_path / "a"), "--record"])
    assert was_exact("dinov2_vits14", "dinov2", "cpu/float32/eager", "AVX512")
    write_card(tmp_path / "b", {CPU: {"native": "exact", "masked": verdict}})
    main([str(tmp_path / "b"), "--record"])
    assert not was_exact("dinov2_vits14", "dinov2", "cpu/float32/eager", "AVX512")


def test_the_same_verdicts_are_no_change(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "before")]) == 0
    write_card(tmp_path / "now", {CPU: EXACT}, torch="2.16.0")  # nothing of a GPU: there was none
    write_card(tmp_path / "now", {CPU: EXACT}, "dinov2_vitb14", torch="2.16.0")
    assert main([str(tmp_path / "now")]) == 0
    assert capsys.readouterr().out == ""


def test_a_change_is_told_with_both_versions(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_card(tmp_path / "now" / "a", {CPU: {**EXACT, "photo": "close"}}, torch="2.16.0")
    write_card(tmp_path / "now" / "b", {CPU: EXACT}, "dinov2_vitb14", torch="2.16.0")
    assert main([str(tmp_path / "now")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Verdicts that are not those on record: 1.")
    assert [line for line in lines if line.startswith("| dinov2")] == [
        "| dinov2_vits14 | cpu/float32/eager | AVX512 | photo | exact | close |"
    ]
    assert "| AVX512 | torch | 2.15.0 | 2.16.0 |" in lines
    assert "| AVX512 | transformers | 5.23.0 | 5.23.0 |" in lines


def test_what_left_no_card_and_what_is_new_are_changes(record: Path, tmp_path: Path) -> None:
    write_card(tmp_path / "now", {CPU: {**EXACT, "masked": "close"}})
    text = render(json.loads(record.read_text(encoding="utf-8")), collect(tmp_path / "now"))
    assert "| dinov2_vitb14 | cpu/float32/eager | AVX512 | native | exact | none |\n" in text
    assert "| dinov2_vitb14 | cpu/float32/eager | AVX512 | photo | exact | none |\n" in text
    assert "| dinov2_vits14 | cpu/float32/eager | AVX512 | masked | none | close |\n" in text
    assert text.count("\n| dinov2") == 3


def test_the_cards_that_are_written_can_be_read(tmp_path: Path) -> None:
    converted = convert()
    cell = MatrixVerdict("cpu", "float32", "sdpa", 0, (InputVerdict("native", Verdict.CLOSE, (1, 3, 28, 28), ()),))
    card = build_parity_card(converted, Provenance(), (cell,), {})
    (tmp_path / "parity.json").write_text(json.dumps(card), encoding="utf-8")
    ((processor, run),) = collect(tmp_path).items()
    assert processor == torch.backends.cpu.get_cpu_capability()
    assert run["verdicts"] == {converted.variant: {"cpu/float32/sdpa": {"native": "close"}}}
    assert run["versions"].keys() >= {"torch", "transformers"}


def test_jobs_that_ran_a_cell_each_are_put_together(tmp_path: Path) -> None:
    write_card(tmp_path / "job-1", {CPU: EXACT})
    write_card(tmp_path / "job-2", {("cpu", "float32", "sdpa"): EXACT}, torch="2.16.0")
    run = collect(tmp_path)["AVX512"]
    assert run["verdicts"] == {"dinov2_vits14": {"cpu/float32/eager": EXACT, "cpu/float32/sdpa": EXACT}}
    assert run["versions"]["torch"] == "2.15.0 or 2.16.0"


def test_cards_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    write_card(tmp_path / "job-1", {GPU: EXACT})
    write_card(tmp_path / "job-2", {("cuda:0", "bfloat16", "sdpa"): {"native": "close"}})
    with pytest.raises(ArtifactError, match=r"job-2.*native is close, in another card exact"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ({"schema": "parity-card/0"}, "no comparison by"),
        ({"activations": []}, "no comparison by"),
        ({"activations": [{"device": "cpu", "dtype": "float32", "attention": "eager", "inputs": []}]}, "no comparison"),
        ({"activations": [{"inputs": EXACT}]}, "KeyError"),
        ({"versions": None}, "TypeError"),
    ],
)
def test_a_bad_card_is_named(
    content: str | dict[str, Any],
    reason: str,
    record: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_card(tmp_path / "now", {CPU: EXACT}, "dinov2_vitb14")
    path = write_card(tmp_path / "now", {CPU: EXACT})
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text(encoding="utf-8")) | content)
    path.write_text(content, encoding="utf-8")
    assert main([str(tmp_path / "now")]) == 2
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert reason in printed


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    write_card(tmp_path, {CPU: {"native": "excellent"}})
    with pytest.raises(ArtifactError, match="excellent"):
        collect(tmp_path)


@pytest.mark.parametrize("content", [None, "", "[]", '{"verdicts": {}}', '{"versions": {}, "verdicts": []}'])
def test_no_cards_or_no_record_are_told(
    content: str | None, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for absent in ("empty", "nowhere"):
        assert main([str(tmp_path / absent)]) == 2
        assert "no parity.json in it" in capsys.readouterr().out
    record.unlink()
    if content is not None:
        record.write_text(content, encoding="utf-8")
    assert main([str(tmp_path / "before")]) == 2
    assert str(record) in capsys.readouterr().out


def test_every_variant_is_on_record() -> None:
    """On the kind of processor that has the most of them, every one; on the others, no name that is none."""
    records = read_record()
    assert records["AVX512"]["verdicts"].keys() == VARIANTS.keys()
    recorded = [(kind, *cells) for kind, record in records.items() for cells in record["verdicts"].items()]
    for kind, variant, cells in recorded:
        assert records[kind]["versions"]["cpu"] == kind
        assert variant in VARIANTS
        assert cells.keys() >= {"cpu/float32/eager", "cpu/float32/sdpa"}, variant
        assert "failed" not in {verdict for inputs in cells.values() for verdict in inputs.values()}, variant
