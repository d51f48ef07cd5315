"""What the Hub and people read about an artifact."""

from dataclasses import replace

import huggingface_hub  # whose parts are imported when they are asked for
import pytest

import conversion
from conversion import Conversion
from conversion.artifact.card import MatrixVerdict, Provenance, build_parity_card
from conversion.artifact.model_card import TASKS, render_model_card
from conversion.families.variants import VARIANTS
from conversion.parity.metrics import NO_DIFFERENCE, Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.parity.verify import InputVerdict
from tests.support.golden import NAMES, read_golden

POINTS = (PointVerdict("pixels", Verdict.EXACT, NO_DIFFERENCE),)
OFF = {"embeddings": Distance(0.5, 0.1), "returned.last_hidden_state": Distance(0.03125, 0.01)}
CELLS = (
    MatrixVerdict(
        "cpu",
        "float32",
        "sdpa",
        0,
        (
            InputVerdict("native", Verdict.EXACT, (1, 3, 56, 56), POINTS),
            InputVerdict("224", Verdict.EXACT, (1, 3, 28, 28), POINTS, "position-embeddings-offset", OFF),
        ),
    ),
)


def convert(name: str = "dinov2_tiny") -> Conversion:
    golden = read_golden(name)
    return conversion.convert(golden.state_dict, **golden.overrides)


def render(out: Conversion, weights: str, cells: tuple[MatrixVerdict, ...] = CELLS) -> "huggingface_hub.ModelCard":
    seed = 0 if weights == "synthetic" else None
    return huggingface_hub.ModelCard(
        render_model_card(out, build_parity_card(out, Provenance(weights, seed), cells, {}))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_model_has_its_pipeline(name: str) -> None:
    out = convert(name)
    card = render(out, "checkpoint")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == TASKS[out.spec.task][0]
    assert {"vision", out.family.replace("_", "-"), "parity-verified"} == set(card.data.tags)
    assert f"{TASKS[out.spec.task][1]}.from_pretrained(" in card.text


@pytest.mark.parametrize("name", VARIANTS)
def test_of_official_weights_all_is_said_that_is_known(name: str) -> None:
    card = render(replace(convert(), variant=name), "pretrained")
    assert card.data.license == VARIANTS[name].license
    assert card.data.datasets == (list(VARIANTS[name].datasets) or None)
    named = VARIANTS[name].hub_repository or None
    assert card.data.base_model == named


@pytest.mark.parametrize("weights", ["checkpoint", "synthetic", "unknown"])
def test_of_other_weights_nothing_is_claimed(weights: str) -> None:
    card = render(replace(convert(), variant="dinov2_vits14"), weights)
    assert (card.data.license, card.data.datasets, card.data.base_model) == (None, None, None)
    assert ("synthetic-weights" in card.data.tags) == (weights == "synthetic")


@pytest.mark.parametrize("aligned", [True, False])
def test_what_is_exact_with_aligned_weights_alone_is_said(aligned: bool) -> None:
    native = replace(CELLS[0].inputs[0], aligned=aligned)
    text = render(convert(), "checkpoint", (replace(CELLS[0], inputs=(native,)),)).text
    assert ("| exact (aligned) |" in text) == ("*aligned*: with the weights copied" in text) == aligned


def test_what_nobody_compared_is_not_called_verified() -> None:
    card = render(convert(), "checkpoint", ())
    assert "parity-verified" not in card.data.tags
    assert "Activations were not compared." in card.text


def test_a_user_is_told_how_far_off_a_deviation_is_here_and_what_to_do() -> None:
    (line,) = [line for line in render(convert(), "checkpoint").text.splitlines() if "position-embeddings" in line]
    assert "is off by up to 0.031 at 28 x 28. What to do: " in line
    assert "--image-size" in line
    text = render(convert("dinov2_tiny_reg"), "checkpoint", (replace(CELLS[0], inputs=CELLS[0].inputs[:1]),)).text
    assert "position-embeddings-offset" not in text
    assert "center-crop-rounding" in text  # concerns every user of the image processor


@pytest.mark.parametrize(
    ("name", "datasets"),
    [
        ("dinov2_vits14", ()),
        ("dinov2_vitg14_reg_1layer", ("imagenet-1k",)),
        ("data2vec_vision_base", ("imagenet-1k",)),
        ("data2vec_vision_large_ft1k", ("imagenet-1k",)),
        ("data2vec_vision_base_ade20k", ()),
    ],
)
def test_datasets_are_those_that_the_weights_have_seen(name: str, datasets: tuple[str, ...]) -> None:
    assert VARIANTS[name].datasets == datasets
