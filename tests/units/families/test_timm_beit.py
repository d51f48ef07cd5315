"""timm's own BEiT as the original of what timm wrote."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.load import load_model
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from tests.support.golden import read_golden
from tests.support.timm_models import convert, list_verdicts, verify, write

BEIT = "beit_base_patch16_224"
SMALL_BEIT = {"img_size": 64, "embed_dim": 128, "depth": 2, "num_heads": 2}
BEIT_HEADS: dict[str, dict[str, Any]] = {
    "mean": {"num_classes": 5},
    "token": {"num_classes": 5, "global_pool": "token"},
    "none": {"num_classes": 0, "global_pool": "token"},
    "features": {"num_classes": 0},
}


@pytest.mark.parametrize("is_described", [True, False])
@pytest.mark.parametrize("head", BEIT_HEADS)
def test_the_converted_beit_is_timms(head: str, is_described: bool, tmp_path: Path) -> None:
    written = write(tmp_path, BEIT, {**SMALL_BEIT, **BEIT_HEADS[head]})
    result = verify(written, 2, "eager", is_described=is_described)
    assert list_verdicts(result) == {Verdict.EXACT}
    assert {"block.1.q", "block.1.k", "block.1.v"} <= {point.point for point in result.points if point.difference}
    assert list_verdicts(verify(written, 2, "sdpa", is_described=is_described)) <= {Verdict.EXACT, Verdict.CLOSE}


def test_features_without_a_head_are_what_timm_pools(tmp_path: Path) -> None:
    """Transformers' classifier of no classes gives what is pooled, where its model without a head would not."""
    written = write(tmp_path / "timm", BEIT, {**SMALL_BEIT, **BEIT_HEADS["features"]})
    assert "fc_norm.weight" in written.checkpoint.state_dict
    out = convert(written, 2)
    assert (out.architecture, out.labels, out.config.num_labels) == ("BeitForImageClassification", (), 0)
    assert any("without its last layer" in note for note in out.notes)
    place = conversion.save_artifact(out, tmp_path / "artifact")
    model = load_model(place, attention="eager", dtype="float32")
    pixel_values = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = model(pixel_values).logits
        assert torch.allclose(features, written.model(pixel_values), atol=1e-5)
    back = conversion.load_checkpoint(conversion.restore_checkpoint(place, tmp_path / "back.pth")[0])
    read = written.checkpoint.state_dict
    assert all(is_bit_equal(tensor, back[key]) for key, tensor in read.items())


def test_positions_of_no_table_need_the_heads_of_config_json(tmp_path: Path) -> None:
    """Tables of relative positions tell the number of heads; of absolute positions only, config.json does."""
    positions = {"use_abs_pos_emb": True, "use_rel_pos_bias": False}
    written = write(tmp_path, BEIT, {**SMALL_BEIT, **positions, "num_classes": 5})
    assert list_verdicts(verify(written, 2, "eager")) == {Verdict.EXACT}
    failed = [point.point for point in verify(written, 4, "eager").points if point.verdict is Verdict.FAILED]
    assert failed[0] == "block.0.attention"


def test_beit_is_built_as_timm_builds_it(tmp_path: Path) -> None:
    written = write(tmp_path, BEIT, {**SMALL_BEIT, "num_classes": 5})
    out = convert(written, 2)
    original = load_family(out.family).load_timm(out.spec, written.checkpoint.state_dict, written.description)
    buffers = dict(written.model.named_buffers())
    assert buffers.keys() == dict(original.named_buffers()).keys()
    assert all(is_bit_equal(buffer, buffers[name]) for name, buffer in original.named_buffers())
    with pytest.raises(ValueError, match="no mask token"):
        original(torch.zeros(1, 3, 64, 64), torch.zeros(1, 16, dtype=torch.bool))


@pytest.mark.parametrize(("change", "message"), [
    ({"task": "semantic-segmentation"}, "no such model: a segmentation model"),
    ({"mask_token": True},              "no such model: a mask token"),
])  # fmt: skip
def test_a_beit_that_timm_has_not_is_refused(change: dict[str, Any], message: str) -> None:
    golden = read_golden("data2vec_vision_tiny_ft1k")
    with pytest.raises(CheckpointError, match=f"(?s){message}.*--original bundled"):
        golden.family.load_timm(replace(golden.spec, **change), golden.state_dict)
