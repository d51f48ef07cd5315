"""BEiT's ledger, entry by entry: each is still there, and vanishes under its counterfactual.

When a test here fails because a deviation is gone, transformers has changed: take the entry out of the ledger.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.load import load_model
from conversion.artifact.stage import save_artifact
from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture.config import limit_out_indices
from conversion.families.images import HALF
from conversion.families.target import transformers_major
from conversion.parity.verdict import Verdict
from tests.support.beit import convert, draw, verify
from tests.support.data2vec_vision import SEGMENTATION
from tests.support.examples import ROOT
from tests.support.golden import PHOTOS, read_golden

CLASSIFIER = read_golden("beit_tiny_ft")


@pytest.mark.parametrize(("out_indices", "depth", "expected"), [
    ((3, 5, 7, 11),  12, (3, 5, 7, 10)),
    ((7, 11, 15, 23), 24, (7, 11, 15, 22)),
    ((2, 5, 8, 10),  12, (2, 5, 8, 10)),
    ((1, 9, 10, 11), 12, (1, 8, 9, 10)),
    ((0, 1, 2, 3),   4,  (-1, 0, 1, 2)),
])  # fmt: skip
def test_the_nearest_blocks_are_found(out_indices: tuple[int, ...], depth: int, expected: tuple[int, ...]) -> None:
    assert limit_out_indices(out_indices, depth) == expected


def convert_segmentation(**settings: Any) -> conversion.Conversion:
    return convert(SEGMENTATION.state_dict, **{**SEGMENTATION.overrides, **settings})


def test_the_last_block_s_feature_is_out_of_reach_and_nothing_else() -> None:
    """The ledger's last-feature-out-of-reach: strict, it fails once transformers can be told of the last block."""
    from transformers import BeitConfig

    with pytest.raises(ValueError, match="out_indices must be valid"):
        BeitConfig(num_hidden_layers=12, out_indices=[5, 7, 9, 13])  # gone: take it out of the ledger
    out = convert_segmentation()
    assert out.config.out_indices == [1, 2, 3, 4]
    assert out.config.original_out_indices == [0, 1, 2, 3]
    result = verify(out)
    assert result.deviation == "last-feature-out-of-reach"
    assert result.verdict is Verdict.EXACT
    assert next(iter(result.otherwise)) == "feature.0"
    assert result.otherwise["returned.logits"].max_abs > 0.1, "gone: take it out of the ledger"


def test_a_segmentation_model_of_earlier_blocks_is_the_same() -> None:
    spec = BeitSpec(**{**vars(SEGMENTATION.spec), "depth": 6, "out_indices": (1, 2, 3, 4)})
    out = convert(draw(spec), out_indices=(1, 2, 3, 4), pool_scales=spec.pool_scales, **PHOTOS)
    assert out.config.out_indices == [3, 4, 5, 6]
    assert not hasattr(out.config, "original_out_indices")
    assert not verify(out).deviation
    assert verify(out).verdict is Verdict.EXACT


def test_the_line_of_the_page_makes_it_the_model_that_was_trained(tmp_path: Path) -> None:
    """In float64, against the outputs of the original as it is."""
    save_artifact(convert_segmentation(), tmp_path / "model")
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^## Telling a BEiT of its last feature\n.*?^```\n(.*?)^```$", page, re.M | re.S)
    held: dict[str, Any] = {"folder": str(tmp_path / "model"), "BeitForSemanticSegmentation": Loader}
    exec(code.replace("from_pretrained(folder)", "load(folder)"), held)
    for case in SEGMENTATION.cases:
        with torch.inference_mode():
            found = held["model"](case.inputs.pixel_values.double()).logits
        assert (found - case.outputs["logits"]).abs().max() <= 1e-12


class Loader:
    """Loads an artifact that is not verified yet, in float64."""

    @staticmethod
    def load(folder: str) -> Any:
        return load_model(Path(folder), dtype="float64")


@pytest.mark.skipif(transformers_major() < 5, reason="transformers 4 takes the softmax in the model's own dtype")
def test_eager_attention_takes_its_softmax_in_float32() -> None:
    """The ledger's softmax-in-float32."""
    out = convert(CLASSIFIER.state_dict)
    result = verify(out, dtype="float64")
    assert result.deviation == "softmax-in-float32"
    assert result.verdict in (Verdict.EXACT, Verdict.CLOSE)
    assert result.otherwise["returned.logits"].max_abs > 1e-9, "gone: take it out of the ledger"
    assert not verify(out, dtype="float64", attention="sdpa").deviation


def test_the_processor_s_default_is_not_v2_s() -> None:
    """The ledger's version-normalisation."""
    from transformers import BeitImageProcessor

    assert list(BeitImageProcessor().image_mean) == list(HALF), "gone: take it out of the ledger"
