"""From a photo to its depth, as originals and as transformers go: sizes, processors, pipelines, the lines of a card."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import conversion
from conversion.artifact.load import load_image_processor, load_model
from conversion.artifact.usage import write_usage
from conversion.families.depth_anything.preprocessing import choose_size
from conversion.parity.metrics import is_bit_equal
from conversion.suite.inputs import open_photo
from tests.support.examples import ROOT
from tests.support.golden import DEPTH, convert, read_golden

ANYTHING, METRIC, AUTHORS = "depth_anything_v2_tiny", "depth_anything_v2_tiny_metric", "dinov2_tiny_dd"


@pytest.mark.parametrize(("size", "original", "processor"), [
    ((480, 640),   (518, 686), (518, 686)),
    ((1080, 1920), (518, 924), (518, 924)),
    ((3000, 4000), (518, 686), (518, 686)),
    ((600, 500),   (616, 518), (616, 518)),
    ((500, 900),   (518, 938), (518, 938)),
    ((200, 300),   (518, 784), (350, 518)),
    ((400, 700),   (518, 910), (294, 518)),
])  # fmt: skip
def test_an_image_gets_the_size_that_either_side_gives_it(
    size: tuple[int, int], original: tuple[int, int], processor: tuple[int, int], tmp_path: Path
) -> None:
    assert choose_size(size, 518, 14) == original
    assert choose_size(size, 518, 14, as_processor=True) == processor
    golden = read_golden(ANYTHING)
    family, spec = golden.family, golden.spec
    described = family.images.build_image_processor(spec, 518)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    photo = open_photo().resize(size[::-1])
    processed = load_image_processor(tmp_path)(photo, return_tensors="pt")["pixel_values"][0]
    assert is_bit_equal(family.images.build_transform(spec, 518, as_processor=True)(photo), processed)
    assert family.images.build_transform(spec, 518)(photo).shape == (3, *original)
    deviation = family.find_image_deviation(spec, photo.size, 518)
    assert deviation is not None
    assert ("resize-by-smaller-change" in deviation.name) == (original != processor)


def run_usage(folder: Path, photo: Image.Image) -> Tensor:
    """What the lines of a model card make of a photo."""
    card = json.loads((folder / "parity.json").read_text())
    held: dict[str, Any] = {"given": photo}
    exec("\n".join(write_usage(card, str(folder))).replace('Image.open("photo.jpg")', "given"), held)
    depth = held["depth"]
    assert isinstance(depth, Tensor)
    return depth.detach()


@pytest.mark.parametrize(("name", "size"), [(ANYTHING, (140, 140)), (METRIC, (140, 140)), (AUTHORS, (66, 68))])
def test_the_lines_of_the_card_give_what_the_original_returns(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """At the native size; beyond it positions are resampled otherwise, see below."""
    golden = read_golden(name)
    conversion.save_artifact(convert(name), tmp_path / "artifact")
    photo = open_photo().resize(size)
    pixels = golden.family.images.build_transform(golden.spec, 70, as_processor=True)(photo)
    if name == AUTHORS:  # whose original puts the zeros around it
        pixels = golden.family.images.build_transform(golden.spec, 70)(photo)
    original = golden.family.load_original(golden.spec, golden.state_dict)
    with torch.inference_mode():
        expected = original(pixels[None])["predicted_depth"]
        if name != AUTHORS:
            expected = interpolate(expected[:, None], size[::-1], mode="bilinear", align_corners=True)[0]
        actual = run_usage(tmp_path / "artifact", photo)
    assert actual.shape == size[::-1]
    assert (actual - expected[0]).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", DEPTH)
def test_a_pipeline_loads_it_and_gives_what_the_card_says(name: str, tmp_path: Path) -> None:
    from transformers import pipeline

    conversion.save_artifact(convert(name), tmp_path / "artifact")
    photo = open_photo().resize((140, 140) if name != AUTHORS else (70, 70))
    estimator: Callable[..., Any] = pipeline("depth-estimation", str(tmp_path / "artifact"))
    depth = estimator(photo)["predicted_depth"]
    assert depth.shape[-2:] == photo.size[::-1]
    lines = run_usage(tmp_path / "artifact", photo)
    # the card's deviations of what is done with the output: other kernels, no least depth, no bounds
    text = (tmp_path / "artifact" / "README.md").read_text()
    entry = "depth-clamp-and-resize" if name == AUTHORS else "depth-resize"
    assert entry in text
    model = load_model(tmp_path / "artifact")
    pixels = load_image_processor(tmp_path / "artifact")(photo, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        own = model(pixels).predicted_depth
    resized = interpolate(own[:, None], photo.size[::-1], mode="bicubic", align_corners=False)[0, 0]
    assert (depth.squeeze() - resized).abs().max() <= 0.05 * float(own.max())  # the backend's kernel
    assert (resized - lines).abs().max() > 1e-4


def find_lines() -> str:
    """The lines of the ledger's page that put the original's resampling in."""
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    section = page.partition("## Resampling positions as the original does")[2]
    found = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", [*DEPTH, "dinov2_tiny"])
@pytest.mark.parametrize("size", [(70, 70), (42, 42), (56, 98), (98, 42), (140, 112)])
def test_the_lines_of_the_ledger_make_every_size_the_original_s(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    golden = read_golden(name)
    conversion.save_artifact(convert(name), tmp_path / "artifact")
    model = load_model(tmp_path / "artifact", dtype="float64")
    held: dict[str, Any] = {"model": model}
    exec(find_lines(), held)
    original = golden.family.load_original(golden.spec, {k: v.double() for k, v in golden.state_dict.items()})
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        expected, actual = original(pixels), model(pixels)
    if name == "dinov2_tiny":
        assert (actual.pooler_output - expected["x_norm_clstoken"]).abs().max() <= 1e-12
    else:
        depth = expected.get("head_depth", expected["predicted_depth"])
        least = model.config.min_depth if name == AUTHORS else 0.0
        assert (actual.predicted_depth + least - depth).abs().max() <= 1e-12
