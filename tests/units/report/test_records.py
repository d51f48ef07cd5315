"""Records: of runs and of artifacts, gathered; what is damaged or contradicts itself is refused by its name."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from conversion.artifact.card import digest_of
from conversion.artifact.card_points import COLUMNS, read_points
from conversion.artifact.reading import EARLIER, read_fields
from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.report import records
from conversion.report.matrix import build_matrix
from conversion.report.records import SCHEMA, Picture, Record, gather, write_record
from conversion.report.render import write_report
from conversion.report.tables import list_points
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from tests.support.verified import edit, pick

PICTURE = Picture("Pixels", {"original": "aGVsbG8="}, "All the same.", (("", "class"), ("1", "cat")))


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


def write_earlier(card: dict[str, Any]) -> None:
    """Make a card one of the earlier version: figures by name, a verdict "deviation", what decides apart."""
    card["schema"] = EARLIER
    del card["columns"]
    for cell in card["activations"]:
        for each in cell["inputs"]:
            decisive = [name_figures(asdict(point)) for point in read_points(each["points"], cell["dtype"])]
            each |= {"points": decisive, "max_ulp": 7}
            if sizes := each.pop("otherwise", None):
                each |= {"counterfactual": decisive, "points": [note(point, sizes) for point in decisive]}
                each["verdict"] = cell["verdict"] = card["verdict"] = "deviation"


def name_figures(point: dict[str, Any]) -> dict[str, Any]:
    figures = {name: value for name, value in point.items() if value not in (None, "")}
    return {name: {**value, "max_ulp": 7} if isinstance(value, dict) else value for name, value in figures.items()}


def note(point: dict[str, Any], sizes: dict[str, list[float]]) -> dict[str, Any]:
    """The point as it is with the deviation in force."""
    if point["point"] not in sizes:
        return {"point": point["point"], "verdict": "exact", "difference": {"max_abs": 0.0, "rms": 0.0, "max_ulp": 0}}
    largest, rms, *_ = sizes[point["point"]]
    difference = {"max_abs": largest, "rms": rms, "max_ulp": 10**6}
    return {"point": point["point"], "verdict": "deviation", "difference": difference}


def test_a_card_of_the_earlier_version_is_reported_as_one_of_this(made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made["dinov2_tiny"], tmp_path / "artifact")
    expected = gather([tmp_path]).results
    edit(tmp_path / "artifact", write_earlier)
    card = json.loads((tmp_path / "artifact" / PARITY_CARD).read_text())
    assert (card["schema"], card["verdict"]) == ("parity-card/2", "deviation")
    record = gather([tmp_path])
    assert [result.verdict for result in record.results] == [result.verdict for result in expected]
    assert any("otherwise" in each for result in record.results for each in result.inputs)
    for found, wanted in zip(record.results, expected, strict=True):
        assert list_points(found) == list_points(wanted)
        # an earlier card has what it is off by, and not how large the values are
        lacking = [{name: size[:2] for name, size in each.get("otherwise", {}).items()} for each in wanted.inputs]
        assert [each.get("otherwise", {}) for each in found.inputs] == lacking
    columns, models = build_matrix([*record.results, *expected])  # brought together with the same of this version
    assert (len(columns), len(models)) == (2, 1)
    write_report(record, tmp_path / "report.html")
    assert "dinov2_custom is the same model" in (tmp_path / "report.html").read_text()


def test_a_record_of_a_run_that_holds_an_earlier_card_is_read_too(made: dict[str, Path], tmp_path: Path) -> None:
    wanted = gather([made["dinov2_tiny"]]).results[0]
    card = json.loads(json.dumps(wanted.card))
    write_earlier(card)
    content = {**asdict(replace(wanted, seconds=2.0)), "card": card | {"digest": digest_of(card)}}
    (tmp_path / "report.json").write_text(json.dumps({"schema": SCHEMA, "commands": ["pytest"], "results": [content]}))
    (found,) = gather([tmp_path]).results
    assert found.verdict is wanted.verdict
    assert list_points(found) == list_points(wanted)


def test_a_record_that_is_no_text_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ArtifactError, match=r"report\.json: cannot be read: 'utf-8' codec can't decode"):
        gather([tmp_path])


def spoil(text: str) -> str:
    return text[: len(text) // 2]


def test_what_is_damaged_or_contradicts_itself_is_refused_all_at_once(made: dict[str, Path], tmp_path: Path) -> None:
    for name in ("cut", "edited", "older", "unknown", "deep", "killed"):
        shutil.copytree(made["dinov2_tiny"], tmp_path / name)
    (tmp_path / "cut" / PARITY_CARD).write_text(spoil((tmp_path / "cut" / PARITY_CARD).read_text()))
    edit(tmp_path / "edited", lambda card: card.update(verdict="exact"))
    edit(tmp_path / "older", lambda card: card.update(schema="parity-card/1"))
    edit(tmp_path / "unknown", lambda card: card.update(family="resnet"))
    edit(tmp_path / "deep", lambda card: card["spec"].update(depth=10**7))
    (tmp_path / "killed" / "model.safetensors").rename(tmp_path / "killed" / "model.unverified.safetensors")
    (tmp_path / "bad.json").write_text('{"schema": "parity-run/1", "commands": []}')
    with pytest.raises(ArtifactError) as raised:
        gather([tmp_path])
    for part in (
        "cut/parity.json: cannot be read",
        "by its parts close",
        "'parity-card/1'",
        "of a family that is not known: 'resnet'",
        "spec depth: 10000000, not a whole number above 0, at most 1,000",
    ):
        assert part in str(raised.value)
    assert "'results' is a required property" in str(raised.value)


SPOILT: dict[str, Any] = {
    "layout": lambda card: card.update(layout=["foo bar"]),
    "no layout": lambda card: card.update(layout=[]),
    "depth": lambda card: card["spec"].update(depth="abc"),
    "depth that is none": lambda card: card["spec"].update(depth=None),
    "heads": lambda card: card["spec"].update(num_heads="x", unknown=1),
    "figure": lambda card: card["activations"][0]["inputs"][0]["points"][-1].__setitem__(COLUMNS.index("elements"), 0),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_card_of_other_types_is_refused_by_its_name(what: str, made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made["dinov2_tiny"], tmp_path / "spoilt")
    edit(tmp_path / "spoilt", SPOILT[what])
    with pytest.raises(ArtifactError, match=r"spoilt/parity\.json"):
        gather([tmp_path])


def test_a_record_around_the_card_of_another_cell_is_refused(gathered: Record, tmp_path: Path) -> None:
    one = pick(gathered, "sdpa")
    card = {**(one.card or {}), "digest": digest_of(one.card or {})}
    for changed in ({"device": "cuda"}, {"dtype": "bfloat16"}, {"variant": "dinov2_vitg14"}):
        write_record(Record((), (replace(one, card=card, **changed),)), tmp_path / "report.json")
        with pytest.raises(ArtifactError, match="where another's should be"):
            gather([tmp_path])


def test_the_card_of_a_shortened_variant_is_its_own(
    gathered: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls itself custom, since an official model has more blocks or other images; all else must be the same."""
    one = pick(gathered, "sdpa")
    card = {**(one.card or {}), "digest": digest_of(one.card or {})}
    depth, heads = card["spec"]["depth"], card["spec"]["num_heads"]
    write_record(Record((), (replace(one, card=card, variant="dinov2_deep"),)), tmp_path / "report.json")
    for changed, family, is_own in (
        ({"depth": depth + 8}, "dinov2", True),
        ({"depth": depth + 8, "image_size": 518}, "dinov2", True),
        ({"image_size": 518}, "dinov2", True),
        ({"depth": depth - 1}, "dinov2", False),
        ({"depth": depth + 8, "num_heads": 2 * heads}, "dinov2", False),
        ({"depth": depth + 8}, "data2vec_vision", False),
    ):
        row = replace(VARIANTS["dinov2_vits14"], family=family, spec={**read_fields(card), **changed})
        monkeypatch.setattr(records, "VARIANTS", {"dinov2_deep": row})
        if is_own:
            assert [result.variant for result in gather([tmp_path]).results] == ["dinov2_deep"]
        else:
            with pytest.raises(ArtifactError, match="where another's should be"):
                gather([tmp_path])


def test_an_artifact_with_other_files_than_its_card_says_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    artifact = Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))
    config = artifact / CONFIG
    config.write_text(config.read_text().replace("1e-06", "1e-05"))
    with pytest.raises(
        ArtifactError, match=rf"its files are not those that {PARITY_CARD} lists[\s\S]*{CONFIG}: SHA-256"
    ):
        gather([tmp_path])
    config.unlink()  # a card on its own is a record still
    assert gather([tmp_path]).results


def test_every_place_must_have_something_recorded(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for places in ([tmp_path], [made["dinov2_tiny"], tmp_path], [tmp_path / "config.json"]):
        with pytest.raises(ArtifactError, match="nothing was recorded there"):
            gather(places)


def test_other_files_are_left_aside(made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made["dinov2_tiny"], tmp_path / "artifact")
    shutil.copytree(made["dinov2_tiny"], tmp_path / ".artifact.staging")
    (tmp_path / "settings.json").write_text("{} // with a remark")
    (tmp_path / "dangling.json").symlink_to(tmp_path / "absent")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    assert len(gather([tmp_path]).results) == 2


def test_an_artifact_whose_activations_nobody_compared_is_told_apart(made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made["dinov2_tiny"], tmp_path / "artifact")
    edit(tmp_path / "artifact", lambda card: card.update(activations=[], verdict="not compared"))
    with pytest.raises(ArtifactError, match="were never compared; vision-parity convert compares"):
        gather([tmp_path])
