"""What runtimes come to for a model as transformers initialises it, beside figures that others can measure again."""

from pathlib import Path

import pytest
import torch

import conversion
from conversion.artifact.load import load_converted
from conversion.exports.asked import parse_export
from conversion.exports.tracing import prepare
from conversion.exports.write import write_export
from conversion.families.base import load_family
from conversion.families.training import normal, uniform
from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import draw_tensor
from conversion.parity.metrics import error_of, likeness_of
from tests.support.sampling import Sampler

INITIAL = {
    "*gamma*": uniform(1.0, 1.0),
    "*norm*.weight": uniform(1.0, 1.0),
    "*bias": uniform(0.0, 0.0),
    "*": normal(0.02),
}

RATIOS = {"onnx": 0.80, "openvino": 1.16, "onnx:int8": 31_104}
"""RMS error of what a ViT-S returns for two images of 224 pixels, as a multiple of the original's own."""

COSINE = 0.998
"""That of the CLS tokens with int8."""


def test_a_small_model_as_it_is_initialised_has_the_figures_on_record(sampler: Sampler, tmp_path: Path) -> None:
    """Other weights from the same distribution give them within a fifth."""
    if not sampler.is_all:
        pytest.skip("a model of full size takes 20 seconds: with --all")
    pytest.importorskip("openvino")
    family = load_family("dinov2")
    spec = family.spec_of(VARIANTS["dinov2_vits14"])
    tensors = family.original_tensors(spec)
    out = conversion.convert({key: draw_tensor("initial", key, like, INITIAL) for key, like in tensors.items()})
    model = load_converted(out, attention=family.choose_attention(), dtype="float32")
    pixel_values = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        own = model(pixel_values).last_hidden_state
        exact = model.double()(pixel_values.double()).last_hidden_state
    traced = prepare(out, model.float())
    ratios, cosines = {}, {}
    for name in RATIOS:
        computed = write_export(traced, parse_export(name), tmp_path).run(pixel_values)["last_hidden_state"]
        ratios[name] = error_of(computed, exact).rms / error_of(own, exact).rms
        cosines[name] = likeness_of(computed[:, :1], exact[:, :1], decides=False).cosine
    assert ratios == pytest.approx(RATIOS, rel=0.2)
    assert cosines["onnx:int8"] == pytest.approx(COSINE, abs=0.002)
