"""The two answers: is it the same model, and what does transformers do otherwise?"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.answer import build_answer, describe_judged, describe_off
from conversion.artifact.card import MatrixVerdict, Provenance, build_parity_card
from conversion.artifact.reading import read_card
from conversion.artifact.sizes import describe_sizes, find_sizes
from conversion.artifact.usage import write_usage
from conversion.parity.metrics import NO_DIFFERENCE, Departure, Distance
from conversion.parity.off import Off
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.parity.verify import InputVerdict
from conversion.suite.inputs import open_photo
from tests.support.golden import read_golden

EXACT = (PointVerdict("pixels", Verdict.EXACT, NO_DIFFERENCE),)
OFFSET = "position-embeddings-offset"
NATIVE = InputVerdict("native", Verdict.EXACT, (1, 3, 70, 70), EXACT)
OFF = {"embeddings": Departure(9.0, 1.0, 1.0), "returned.x": Departure(0.5, 0.1, 2.0)}
SMALLER = InputVerdict("224", Verdict.EXACT, (1, 3, 224, 224), EXACT, OFFSET, OFF)
BOTH = f"{OFFSET}, center-crop-rounding"
PHOTO = replace(SMALLER, name="photo", deviation=BOTH, otherwise={"returned.x": Departure(2.0, 1.0, 2.0)})


def build(*inputs: InputVerdict, name: str = "dinov2_tiny", **options: Any) -> dict[str, Any]:
    golden = read_golden(name)
    out = conversion.convert(golden.state_dict, **golden.overrides, **options)
    cells = (MatrixVerdict("cpu", "float32", "sdpa", 0, inputs),) if inputs else ()
    return build_parity_card(out, Provenance("synthetic", 0), cells, {"model.safetensors": "0" * 64})


def test_a_deviation_is_no_verdict() -> None:
    answer = build_answer(build(NATIVE, SMALLER))
    assert answer.verdict is Verdict.EXACT
    assert describe_judged(answer.conversion[0]) == "exact with sdpa: every bit agrees at 2 points on 2 inputs"
    assert "deviation" not in str([describe_judged(judged) for judged in answer.conversion])


def test_how_far_off_it_is_is_told_of_what_the_model_returns() -> None:
    """Not of what is inside, where it may be farther off; by the size of an image, not by the name of an input."""
    found = {each.name: each for each in build_answer(build(NATIVE, SMALLER)).otherwise}
    said = "What this model returns is off by 5 % at 224 x 224; a single value by up to 0.5."
    assert describe_off(found[OFFSET]) == said
    assert describe_off(found["center-crop-rounding"]) == "How much: the crop is shifted by one pixel."


def test_how_far_off_it_is_is_told_of_a_card_that_does_not_say_how_large_values_are() -> None:
    without = replace(SMALLER, otherwise={name: Distance(off.max_abs, off.rms) for name, off in OFF.items()})
    found = {each.name: each for each in build_answer(build(NATIVE, without)).otherwise}
    assert describe_off(found[OFFSET]) == "What this model returns is off by up to 0.5 at 224 x 224."


def test_only_sizes_that_are_identical_are_called_so() -> None:
    sizes = build_answer(build(NATIVE, SMALLER, PHOTO)).sizes
    assert (sizes.identical, sizes.processor, sizes.off_by) == (
        (70,),
        224,
        Off(0.5, 0.05),
    )  # not by what the image processor does
    assert describe_sizes(sizes) == (
        "Only 70 x 70 pixels are identical. The image processor makes 224 x 224, where what the model returns is "
        "off by 5 % (a single value by up to 0.5). To be identical there, convert with --image-size 224."
    )
    assert describe_sizes(build_answer(build(NATIVE, image_size=224)).sizes) == ""
    assert describe_sizes(build_answer(build(NATIVE, name="dinov2_tiny_reg")).sizes) == ""


def test_what_was_not_measured_is_told_without_a_figure() -> None:
    answer = build_answer(build())
    assert answer.verdict is None
    said = {each.name: describe_off(each) for each in answer.otherwise}[OFFSET]
    assert said.startswith("How much: at 224, on last hidden states: ")
    assert "off by" not in describe_sizes(answer.sizes)
    baked = build_answer(build(image_size=224))
    assert OFFSET not in {each.name for each in baked.otherwise}


def test_what_does_not_apply_is_not_told() -> None:
    names = {each.name for each in build_answer(build(NATIVE, name="dinov2_tiny_reg")).otherwise}
    assert names == {"image-processor-backend", "center-crop-rounding"}
    card = build(NATIVE)
    family, spec = read_golden("dinov2_tiny").family, read_golden("dinov2_tiny").spec
    assert find_sizes(family, spec, 70, card["activations"]).off_by is None


def run_lines(lines: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)  # as a user pastes them
    return names


LOADED: dict[str, Callable[[Path], str]] = {"as it is": str, "with a slash": lambda path: f"{path}/"}


@pytest.mark.parametrize("place", LOADED)
def test_the_lines_to_paste_are_identical_to_the_original(place: str, made: dict[str, Path]) -> None:
    """At the native size, since the processor's own is not: what they load makes images of that size."""
    card = read_card(made["dinov2_tiny"])
    lines = write_usage(card, LOADED[place](made["dinov2_tiny"]))
    loaded = run_lines(lines)
    pixels = loaded["processor"](open_photo(), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 70, 70)
    golden = read_golden("dinov2_tiny")
    original = golden.family.load_original(golden.spec, golden.state_dict)
    transform = golden.family.images.build_transform(replace(golden.spec, input_size=None), 70)
    assert torch.equal(transform(open_photo())[None], pixels)
    with torch.inference_mode():
        expected = original(pixels)
        actual = loaded["model"](pixels).last_hidden_state
    assert torch.equal(expected["x_norm_clstoken"], actual[:, 0])
