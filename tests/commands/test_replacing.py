"""Where a converted model goes: no other checkpoint's is lost unasked, and what is replaced is named."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.identity import describe_other, has_own_weights
from conversion.artifact.stage import refuse_other
from conversion.cli.app import main
from conversion.errors import ArtifactError, ConversionError, ConversionWarning
from conversion.intake.checkpoint import load_checkpoint
from conversion.state_dicts.folder import MODEL_CARD, PARITY_CARD
from tests.support.commands import TINY, assert_refused, left_over, run
from tests.support.golden import list_options, read_golden

SETTINGS = list_options("dinov2_tiny")
TOLD = read_golden("dinov2_tiny").overrides
SDPA = ("--save-artifacts", "--attention", "sdpa")


@pytest.fixture(autouse=True)
def stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    torch.save({key: tensor * 2 for key, tensor in torch.load(here / "tiny.pth").items()}, here / "other.pth")


def read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / PARITY_CARD).read_text())
    return card


def list_sources(folder: Path) -> list[str]:
    checkpoints = read_card(folder)["source"]["checkpoints"].values()
    return [file["name"] for checkpoint in checkpoints for file in checkpoint["files"]]


def test_two_checkpoints_do_not_end_under_one_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "tiny.pth", *SETTINGS]) == 0
    assert main(["convert", "tiny.pth", *SETTINGS]) == 0  # again, itself
    assert "replaced" not in capsys.readouterr().out
    assert main(["convert", "other.pth", *SETTINGS]) == 2
    errors = capsys.readouterr().err
    assert "another model has this name, and is not replaced: dinov2_custom, of tiny.pth." in errors
    assert "--name NAME" in errors
    assert list_sources(here / "artifacts" / "dinov2_custom") == ["tiny.pth"]
    assert main(["convert", "other.pth", "--name", "mine", *SETTINGS]) == 0
    assert left_over(here) == ["dinov2_custom", "mine"]
    assert list_sources(here / "artifacts" / "mine") == ["other.pth"]
    code, output = run(here, "--checkpoint=other.pth", *SETTINGS, *SDPA)
    assert code == 1
    assert "not replaced: dinov2_custom, of tiny.pth" in output
    assert "Traceback" not in output


def test_what_is_replaced_on_request_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "tiny.pth", "-o", "mine", *SETTINGS]) == 0
    capsys.readouterr()
    assert main(["convert", "other.pth", "-o", "mine", *SETTINGS]) == 0
    assert "It replaced dinov2_custom, of tiny.pth.\n" in capsys.readouterr().out
    assert main(["convert", "tiny.pth", "-o", "mine", "--json", *SETTINGS]) == 0
    assert json.loads(capsys.readouterr().out)["replaced"] == "dinov2_custom, of other.pth"
    code, output = run(here, "--checkpoint=other.pth", *SETTINGS, *SDPA, "--artifacts-dir=.", "--name=mine")
    assert code == 0, output
    assert "mine: replaced dinov2_custom, of tiny.pth" in output
    assert "artifacts: mine, in " in output


def test_a_baked_one_has_its_size_in_its_name(here: Path) -> None:
    for size in ((), ("--image-size=42",)):
        code, output = run(here, *TINY, *SDPA, *size)
        assert code == 0, output
    assert left_over(here) == ["dinov2_custom", "dinov2_custom_42"]
    assert read_card(here / "artifacts" / "dinov2_custom_42")["baked_image_size"] == 42
    assert "artifacts: dinov2_custom_42, in " in output


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_name_is_that_of_a_folder(name: str, here: Path) -> None:
    assert_refused(here, (*TINY, "--save-artifacts", f"--name={name}"), "not the name of a folder")


def test_a_name_belongs_to_a_checkpoint(here: Path) -> None:
    assert_refused(here, ("--name=mine",), "--name: only for a checkpoint of one's own")


CHECKPOINT = {
    "variant": "dinov2_custom",
    "result": {"config.json": "c", "model.safetensors": "a"},
    "source": {
        "weights": "checkpoint",
        "seed": None,
        "checkpoints": {"checkpoint": {"files": [{"name": "t.pth", "sha256": "1"}], "intake": []}},
    },
}


def change(**changes: Any) -> dict[str, Any]:
    return {**CHECKPOINT, **changes}


def source(
    weights: str = "checkpoint", sha256: str | None = "1", *steps: str, seed: int | None = None
) -> dict[str, Any]:
    each = {"files": [{"name": "t.pth", "sha256": sha256}], "intake": [{"name": step, "did": ""} for step in steps]}
    return {"weights": weights, "seed": seed, "checkpoints": {"checkpoint": each} if sha256 else {}}


OTHER_WEIGHTS = {"config.json": "c", "model.safetensors": "b"}

# what is there, beside a conversion of t.pth: what is said of it
PRESENT: dict[str, tuple[dict[str, Any] | None, str]] = {
    "nothing": (None, ""),
    "itself": (CHECKPOINT, ""),
    "the same weights of another file": (change(source=source(sha256="2")), ""),
    "the same file in shards": (change(result={"model-1.safetensors": "x", "model-2.safetensors": "y"}), ""),
    "other weights of the same file": (
        change(result=OTHER_WEIGHTS, source=source("checkpoint", "1", "unwrap")),
        "dinov2_custom, of t.pth",
    ),
    "another file": (change(result=OTHER_WEIGHTS, source=source(sha256="2")), "dinov2_custom, of t.pth"),
    "drawn": (
        change(result=OTHER_WEIGHTS, source=source("synthetic", "2", seed=3)),
        "dinov2_custom, drawn from seed 3",
    ),
    "in memory": (
        change(result=OTHER_WEIGHTS, source=source("unknown", None)),
        "dinov2_custom, of a state dict in memory",
    ),
    "no source": ({"variant": "a", "result": {}}, "a model whose card cannot be read"),
    "a list": ({"variant": "a", "result": [], "source": []}, "a model whose card cannot be read"),
}


@pytest.mark.parametrize("what", PRESENT)
def test_another_model_is_known_by_its_card(what: str) -> None:
    present, said = PRESENT[what]
    assert describe_other(present, CHECKPOINT) == said


def test_only_what_can_be_made_again_gives_way() -> None:
    assert [
        has_own_weights({"source": source(each)}) for each in ("synthetic", "pretrained", "checkpoint", "unknown")
    ] == [
        False,
        False,
        True,
        True,
    ]
    assert has_own_weights({"source": None})


def test_an_official_model_does_not_take_the_place_of_ones_own(here: Path) -> None:
    conversion.save_artifact(conversion.convert(load_checkpoint("tiny.pth"), **TOLD), "mine")
    official = change(result=OTHER_WEIGHTS, source=source("pretrained", "2"))
    for is_own, way_out in ((True, "--name NAME"), (False, "Move mine to another place first")):
        with pytest.raises(ArtifactError, match=rf"(?s)of tiny\.pth\..*{way_out}\."):
            refuse_other(Path("mine"), official, is_own=is_own)


def test_python_names_the_file_that_was_read(here: Path) -> None:
    golden = read_golden("dinov2_tiny_1layer")
    out = conversion.convert(load_checkpoint("tiny.pth"), linear_head=load_checkpoint("head.pth"), **golden.overrides)
    conversion.save_artifact(out, "mine")
    assert list_sources(here / "mine") == ["tiny.pth", "head.pth"]
    card = read_card(here / "mine")
    assert card["source"]["weights"] == "checkpoint"
    assert card["source"]["checkpoints"]["checkpoint"]["intake"][0]["name"] == "open"
    assert "| tiny.pth (checkpoint) | " in (here / "mine" / MODEL_CARD).read_text()


def test_python_names_no_file_for_what_was_changed_in_memory(here: Path) -> None:
    """Values in place, a tensor for another, a head that was made in memory."""
    written, replaced = load_checkpoint("tiny.pth"), load_checkpoint("tiny.pth")
    written["norm.weight"].mul_(2)
    replaced["norm.weight"] = load_checkpoint("other.pth")["norm.weight"]
    head = read_golden("dinov2_tiny_1layer").linear_head
    for number, (state_dict, linear_head) in enumerate(
        (
            (written, None),
            (replaced, None),
            (dict(load_checkpoint("tiny.pth")), None),
            (load_checkpoint("tiny.pth"), head),
        )
    ):
        out = conversion.convert(state_dict, linear_head=linear_head, **TOLD)
        conversion.save_artifact(out, here / str(number))
        assert read_card(here / str(number))["source"] == {"weights": "unknown", "seed": None, "checkpoints": {}}


def test_python_names_no_file_that_is_another_by_now(here: Path) -> None:
    state_dict = {key: tensor.clone() for key, tensor in load_checkpoint("tiny.pth").items()}
    assert conversion.convert(state_dict, **TOLD).origins == {}
    out = conversion.convert(load_checkpoint("tiny.pth"), **TOLD)
    (here / "tiny.pth").rename(here / "moved.pth")
    with pytest.warns(ConversionWarning, match=r"tiny\.pth: not there as it was read; the card names no source"):
        conversion.save_artifact(out, "mine")
    assert list_sources(here / "mine") == []


def test_python_says_what_it_replaces(here: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            conversion.save_artifact(conversion.convert(load_checkpoint("tiny.pth"), **TOLD), "mine")
    with pytest.warns(ConversionWarning, match=r"mine: replaced dinov2_custom, of tiny\.pth\."):
        conversion.save_artifact(conversion.convert(load_checkpoint("other.pth"), **TOLD), "mine")


@pytest.mark.parametrize("input_size", [70, 224])
def test_python_lists_every_deviation_that_applies(input_size: int, here: Path) -> None:
    """Of position embeddings too, where the image processor makes images of the native size."""
    out = conversion.convert(load_checkpoint("tiny.pth"), **TOLD, input_size=input_size)
    conversion.save_artifact(out, "mine")
    assert "- **position-embeddings-offset**" in (here / "mine" / MODEL_CARD).read_text()
    out = conversion.convert(load_checkpoint("tiny.pth"), **TOLD, image_size=42)
    conversion.save_artifact(out, "baked")
    assert "position-embeddings-offset" not in (here / "baked" / MODEL_CARD).read_text()


def test_an_artifact_that_was_tampered_with_is_still_refused(here: Path) -> None:
    conversion.save_artifact(conversion.convert(load_checkpoint("tiny.pth"), **TOLD), "mine")
    (here / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConversionError, match=r"not of an artifact: notes\.txt"):
        conversion.save_artifact(conversion.convert(load_checkpoint("other.pth"), **TOLD), "mine")
