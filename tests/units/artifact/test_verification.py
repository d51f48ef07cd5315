"""An artifact is verified by its card, and refused when anything about either is not right."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import conversion
from conversion.artifact.card_points import COLUMNS
from conversion.artifact.reading import read_card
from conversion.artifact.schemas import FOLDER, load_validator
from conversion.artifact.verify import verify_artifact
from conversion.artifact.weights import INDEX, UNVERIFIED_WEIGHTS, WEIGHTS
from conversion.errors import ArtifactError
from conversion.parity.verdict import Tolerances
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from tests.support.golden import read_golden
from tests.support.verified import MODELS, Change, edit, make_artifact


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))


def list_all_points(card: dict[str, Any]) -> Iterator[tuple[list[Any], int]]:
    """Every list of capture points, and each place in it."""
    for cell in card["activations"]:
        for result in cell["inputs"]:
            yield from ((result["points"], index) for index in range(len(result["points"])))


def set_figure(column: str, value: object) -> Change:
    """Of the first capture point that is close."""

    def change(card: dict[str, Any]) -> None:
        row = next(points[index] for points, index in list_all_points(card) if points[index][1] == "close")
        row[COLUMNS.index(column)] = value

    return change


def fail_an_exact_point(card: dict[str, Any]) -> None:
    points, index = next(each for each in list_all_points(card) if isinstance(each[0][each[1]], str))
    points[index] = [points[index], "failed"]


def call_a_close_point_exact(card: dict[str, Any]) -> None:
    """Each that is close, so that the input's verdict no longer follows."""
    for points, index in list_all_points(card):
        points[index] = points[index] if isinstance(points[index], str) else points[index][0]


def damage(text: str) -> Callable[[Path], None]:
    return lambda artifact: (artifact / INDEX).write_text(text) and None


# what happens to an artifact in shards: what is said of it
SHARDS = {
    "nothing": (lambda _artifact: None, ""),
    "a shard gone": (lambda artifact: next(artifact.glob("model-00002*")).unlink(), "model-00002-of-.*: not there"),
    "half an index": (damage("{"), "cannot be read as an index"),
    "an index of nothing": (damage('{"weight_map": {}}'), "names no files"),
}


@pytest.mark.parametrize("done", SHARDS)
def test_an_artifact_in_shards_is_whole_or_refused(done: str, tmp_path: Path) -> None:
    change, message = SHARDS[done]
    artifact = make_artifact(tmp_path, "dinov2_tiny_reg", max_shard_size="100KB")
    assert len(list(artifact.glob("model-*"))) > 2
    change(artifact)
    if not message:
        verify_artifact(artifact)
        return
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)


@pytest.mark.parametrize("name", MODELS)
def test_what_has_passed_is_verified(name: str, made: dict[str, Path]) -> None:
    card = verify_artifact(made[name])
    assert len(card["activations"]) == 2
    assert list(load_validator("parity_card").iter_errors(card)) == []


def list_properties(schema: Any) -> set[str]:
    """Every name that a schema knows, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(list_properties, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())).union(*map(list_properties, schema.values()))


def test_the_schema_is_a_schema_and_described() -> None:
    schema = json.loads((FOLDER / "parity_card.schema.json").read_text())
    load_validator("parity_card").check_schema(schema)
    page = (FOLDER.parents[1] / "docs" / "card.md").read_text(encoding="utf-8")
    assert [name for name in sorted(list_properties(schema)) if f"`{name}`" not in page] == []


def flip_a_byte(artifact: Path, _other: Path) -> None:
    content = bytearray((artifact / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (artifact / WEIGHTS).write_bytes(content)


def swap(name: str) -> Callable[[Path, Path], None]:
    return lambda artifact, other: shutil.copy(other / name, artifact / name) and None


def write(text: str) -> Callable[[Path, Path], None]:
    return lambda artifact, _other: (artifact / PARITY_CARD).write_text(text) and None


def remove(name: str) -> Callable[[Path, Path], None]:
    return lambda artifact, _other: (artifact / name).unlink()


def add(name: str) -> Callable[[Path, Path], None]:
    return lambda artifact, _other: (artifact / name).write_text("{}") and None


def unpublish(artifact: Path, _other: Path) -> None:
    (artifact / WEIGHTS).rename(artifact / UNVERIFIED_WEIGHTS)


def break_config(artifact: Path, _other: Path) -> None:
    config = json.loads((artifact / CONFIG).read_text())
    (artifact / CONFIG).write_text(json.dumps(config | {"model_type": "unheard-of"}))


# what was done to the files: what is said of it
FILES = {
    "flipped byte": (flip_a_byte, f"{WEIGHTS}: SHA-256"),
    "swapped weights": (swap(WEIGHTS), f"{WEIGHTS}: SHA-256"),
    "swapped config": (swap(CONFIG), "config.json describes another model than the card: "),
    "weights gone": (remove(WEIGHTS), f"{WEIGHTS}: not there"),
    "config gone": (remove(CONFIG), f"{CONFIG}: describes no model"),
    "another's card": (swap(PARITY_CARD), "config.json describes another model than the card: "),
    "no card": (remove(PARITY_CARD), "has no verification card"),
    "empty file": (write(""), "cannot be read"),
    "empty card": (write("{}"), "its schema is None"),
    "a list": (write("[]"), "its schema is None"),
    "another version's": (write('{"schema": "parity-card/1"}'), "its schema is 'parity-card/1'"),
    "an earlier version's, empty": (write('{"schema": "parity-card/2"}'), "is no verification card"),
    "name of a schema": (write('{"schema": "parity-card/3"}'), "'digest' is a required property"),
    "a processor more": (add("processor_config.json"), "processor_config.json: not of an artifact"),
    "not published": (unpublish, "was not published"),
    "config of no model": (break_config, f"{CONFIG}: describes no model that is known"),
    "nested too deeply": (write("[" * 100_000), "cannot be read"),
}


@pytest.mark.parametrize("done", FILES)
def test_other_files_are_refused(done: str, artifact: Path, made: dict[str, Path]) -> None:
    change, message = FILES[done]
    change(artifact, made["dinov2_tiny_reg"])
    with pytest.raises(ArtifactError, match=message.replace("[", r"\[")):
        verify_artifact(artifact)


def empty_all(card: dict[str, Any]) -> None:
    card["activations"], card["verdict"] = [], "not compared"


def keep_twins(card: dict[str, Any]) -> None:
    for result in card["activations"][0]["inputs"]:
        result["baked_twin"] = 42


def keep_masked(card: dict[str, Any]) -> None:
    cell = card["activations"][0]
    cell["inputs"] = [result for result in cell["inputs"] if result["masked"]]


def find_otherwise(card: dict[str, Any]) -> dict[str, Any]:
    """The first input that transformers computes otherwise."""
    return next(each for each in card["activations"][0]["inputs"] if "otherwise" in each)


def withhold_the_deviation(card: dict[str, Any]) -> None:
    """As somebody would who wants no second answer."""
    for cell in card["activations"]:
        for result in cell["inputs"]:
            result["deviation"] = None
            result.pop("otherwise", None)


# what was done to the card: what is said of it
CARDS: dict[str, tuple[Change, str]] = {
    "verdict": (lambda card: card.update(verdict="exact"), "the card: the verdict is exact, by its parts close"),
    "verdict of a cell": (
        lambda card: card["activations"][0].update(verdict="exact"),
        "float32, eager: the verdict is exact, by its parts",
    ),
    "verdict of an input": (
        lambda card: card["activations"][0]["inputs"][0].update(verdict="exact"),
        "native: all points: the verdict is exact, by its parts close",
    ),
    "verdicts of points": (call_a_close_point_exact, "native: all points: the verdict is close, by its parts exact"),
    "error": (set_figure("converted_error.rms", 1.0), "are worse than said"),
    "difference": (set_figure("difference.max_abs", 9.0), "max_abs: .*, by its capture points 9.0"),
    "aligned and not exact": (
        lambda card: card["activations"][0]["inputs"][0].update(aligned=True),
        "native: the card says that aligned weights make it exact; by its points it is not",
    ),
    "figures gone": (set_figure("scale.max_abs", None), "are worse than said"),
    "failed": (fail_an_exact_point, "the verdict is"),
    "nothing compared": (empty_all, "activations were not compared"),
    "no inputs": (lambda card: card["activations"][0].update(inputs=[]), "should be non-empty"),
    "no points": (lambda card: card["activations"][0]["inputs"][0].update(points=[]), "should be non-empty"),
    "a point less": (lambda card: card["activations"][0]["inputs"][0]["points"].pop(), "are not those of this model"),
    "twins alone": (keep_twins, "no input went through all of the artifact itself"),
    "masks alone": (keep_masked, "no input went through all of the artifact itself"),
    "deviation that no artifact has": (
        lambda card: card["activations"][0]["inputs"][1].update(deviation="layer-norm-eps-default"),
        "not in the ledger of known deviations: layer-norm-eps-default",
    ),
    "no deviation by name": (
        lambda card: find_otherwise(card).update(deviation=None),
        "the card says that transformers computes it otherwise, and names no deviation",
    ),
    "a deviation that shows nowhere": (
        lambda card: find_otherwise(card).pop("otherwise"),
        "position-embeddings-offset is said to apply, and no point is said to be off by it",
    ),
    "a deviation withheld": (withhold_the_deviation, "none is said to show; position-embeddings-offset applies"),
    "a size that is no number": (
        lambda card: find_otherwise(card)["otherwise"].update(embeddings=[float("nan"), 1.0]),
        "otherwise: a size that is no number",
    ),
    "half a figure": (set_figure("original_error.rms", None), "are worse than said"),
    "otherwise at no point": (
        lambda card: find_otherwise(card)["otherwise"].update(moon=[1.0, 1.0]),
        "otherwise: no points of this model: moon",
    ),
    "other columns": (lambda card: card["columns"].reverse(), r"\$\.columns: "),
    "unheard-of deviation": (
        lambda card: card["activations"][0]["inputs"][1].update(deviation="moonlight"),
        "not in the ledger of known deviations: moonlight",
    ),
    "another model": (
        lambda card: card["spec"].update(depth=99),
        "config.json describes another model than the card: ",
    ),
    "another family": (lambda card: card.update(family="data2vec_vision"), "its spec is of no data2vec_vision model"),
    "tensors not exact": (lambda card: card["tensors"].update(verdict="close"), "'exact' was expected"),
    "no tensors": (lambda card: card["tensors"].update(compared=0), "less than the minimum"),
    "a word more": (lambda card: card.update(trust="me"), "'trust' was unexpected"),
    "a file less": (lambda card: card["result"].pop(WEIGHTS), f"{WEIGHTS}: the card says nothing of it"),
}


@pytest.mark.parametrize("done", CARDS)
def test_an_edited_card_is_refused(done: str, artifact: Path) -> None:
    """Also where somebody has renewed its digest."""
    change, message = CARDS[done]
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)


def test_what_a_download_leaves_beside_an_artifact_is_no_part_of_it(artifact: Path) -> None:
    (artifact / ".gitattributes").write_text("*.safetensors filter=lfs")
    (artifact / ".cache" / "huggingface").mkdir(parents=True)
    verify_artifact(artifact)


@pytest.mark.parametrize("done", ["verdict of an input", "error", "another model"])
def test_the_digest_tells_that_a_card_was_edited(done: str, artifact: Path) -> None:
    edit(artifact, CARDS[done][0], is_renewed=False)
    with pytest.raises(ArtifactError, match="the card was edited"):
        verify_artifact(artifact)


def test_all_problems_are_said_at_once(artifact: Path, made: dict[str, Path]) -> None:
    flip_a_byte(artifact, artifact)
    edit(artifact, lambda card: card.update(verdict="exact"), is_renewed=False)
    with pytest.raises(ArtifactError) as raised:
        verify_artifact(artifact)
    assert len(raised.value.problems) == 3


def test_an_artifact_whose_activations_nobody_compared_is_refused(tmp_path: Path) -> None:
    golden = read_golden("dinov2_tiny")
    conversion.save_artifact(conversion.convert(golden.state_dict, **golden.overrides), tmp_path / "tiny")
    assert list(load_validator("parity_card").iter_errors(read_card(tmp_path / "tiny"))) == []
    with pytest.raises(ArtifactError, match="activations were not compared"):
        verify_artifact(tmp_path / "tiny")


def test_figures_are_judged_again_by_another_tolerance(artifact: Path) -> None:
    verify_artifact(artifact, Tolerances(error_ratio=3.0))
    with pytest.raises(ArtifactError, match="are worse than said"):
        verify_artifact(artifact, Tolerances(error_ratio=0.5, chance=0.0, floor_max_ulp=0.0, floor_rms_ulp=0.0))
