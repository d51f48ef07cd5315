"""What must not be taken for timm's DINOv3: other models with rotary positions, and what no file tells."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import conversion
from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.told import ToldStateDict
from conversion.mapping.key_map import shapes_of
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.state_dicts.recognise import recognise_shapes
from tests.support.golden import read_golden
from tests.support.timm_dinov3 import FAMILY, PLAIN, SMALL, convert, make, verify
from tests.support.timm_models import Written, write


def read_bare(folder: Path) -> conversion.Conversion:
    (folder / "config.json").unlink()
    with warnings.catch_warnings(action="ignore"):
        return conversion.convert(conversion.load_checkpoint(folder))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "other angles": ({"rope_type": "cat"}, "rope: RotaryEmbeddingCat, not RotaryEmbeddingDinoV3"),
    "neighbours": ({"rope_rotate_half": False}, "it rotates neighbouring channels"),
    "offset": ({"rope_grid_offset": 0.5}, "rope: places or angles of patches are not DINOv3's"),
    "order": ({"rope_grid_indexing": "xy"}, "rope: places or angles of patches are not DINOv3's"),
}
"""Arguments, and what is said of them; the tensors have the names and the shapes of DINOv3's."""


def compute_angles(arguments: dict[str, Any]) -> Tensor:
    import timm

    rotary: Any = timm.create_model(PLAIN, pretrained=False, **SMALL, **arguments).rope
    angles: Tensor = rotary.get_embed([3, 5])
    return angles


@pytest.mark.parametrize("name", OTHERS)
def test_other_rotary_positions_of_the_same_tensors_are_refused(name: str, tmp_path: Path) -> None:
    arguments, says = OTHERS[name]
    if "grid" in str(arguments) and is_bit_equal(compute_angles({}), compute_angles(arguments)):
        pytest.skip("this timm does not hand the argument on to the positions of DINOv3")
    like = make("plain", tmp_path / "plain")
    with pytest.raises(CheckpointError, match=rf"(?s){PLAIN}, which computes something else.*{says}.*move it away"):
        write(tmp_path / "other", PLAIN, {**SMALL, **arguments})
    theirs, ours = (load_file(tmp_path / each / "model.safetensors") for each in ("other", "plain"))
    assert {key: tensor.shape for key, tensor in theirs.items()} == {key: each.shape for key, each in ours.items()}
    with pytest.raises(CheckpointError, match="which computes something else"):
        FAMILY.load_timm(convert(like).spec, theirs, json.loads((tmp_path / "other" / "config.json").read_text()))


@pytest.mark.parametrize("name", ["plain", "biases", "gated", "packed"])
def test_without_config_json_nothing_tells_what_it_is(name: str, tmp_path: Path) -> None:
    written = make(name, tmp_path)
    spec = convert(written).spec
    with pytest.raises(CheckpointError, match=r"(?s)nothing tells the kind.*reg_token \(1, 4, 128\).*config\.json"):
        read_bare(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"Nothing tells which of timm's models.*\n.*config\.json.*--original bundled"
    ):
        FAMILY.load_timm(spec, written.checkpoint.untranslated or {}, None)


BLOCKS: dict[str, tuple[dict[str, Any], str]] = {
    "another attention": ({"attn_type": "rope"}, r"blocks\.0\.attn: AttentionRope, not EvaAttention"),
    "norms behind": ({"use_post_norm": True}, r"blocks\.1: EvaBlockPostNorm, not EvaBlock"),
    "no class token": ({"class_token": False}, r"cls_token: it has none"),
    "positions": ({"use_abs_pos_emb": True}, r"pos_embed \(1, 30, 128\): position embeddings, beside"),
    "classifier": ({"num_classes": 5}, r"head\.bias \(5,\): a classifier"),
    "pooled before": ({"use_fc_norm": True}, r"fc_norm\.weight \(128,\): a norm after the pooling"),
    "pooled by attention": ({"global_pool": "map"}, r"attn_pool\..*: pooling by attention"),
    "norm before": ({"use_pre_transformer_norm": True}, r"norm_pre\.weight \(128,\): a norm before the blocks"),
}
"""Arguments, and what is said of them."""


@pytest.mark.parametrize("name", BLOCKS)
def test_what_transformers_has_no_place_for_is_refused_by_name(name: str, tmp_path: Path) -> None:
    arguments, says = BLOCKS[name]
    with pytest.raises(CheckpointError, match=says):
        write(tmp_path, PLAIN, {**SMALL, **arguments})


def test_every_model_of_timms_with_rotary_positions_is_told_apart() -> None:
    """LingBot-Vision's and EUPE's compute what DINOv3's do; all others are refused, with config.json and without."""
    import timm

    converted = []
    for architecture in timm.list_models(module="eva"):
        arguments = {} if "sapiens2" in architecture else {"depth": 1}  # which has heads for each of its blocks
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False, **arguments)
        state_dict, description = model.state_dict(), {"architecture": architecture, "model_args": arguments}
        assert FAMILY.translate(state_dict) == (state_dict, "")
        if model.rope is None:
            assert FAMILY.translate(state_dict, description) == (state_dict, "")
            continue
        with pytest.raises((CheckpointError, KeyMapError)) as raised:
            conversion.convert(state_dict, num_attention_heads=1)
        assert ("as Sapiens2 has them" in str(raised.value)) == ("sapiens2" in architecture)
        if re.search("_dinov3|_lingbot", architecture):
            assert "nothing tells the kind" in str(raised.value)
            converted.append(architecture)
            check_translated(state_dict, description)
            continue
        with pytest.raises(CheckpointError, match=f"names timm's {architecture}, which computes something else"):
            FAMILY.translate(state_dict, description)
    assert len(converted) >= 11  # of the oldest timm that is supported


def check_translated(state_dict: dict[str, Tensor], description: dict[str, Any]) -> None:
    """What is translated has the very keys and shapes of an original."""
    translated, did = FAMILY.translate(state_dict, description)
    family, spec = recognise_shapes(translated)
    assert family is FAMILY
    assert shapes_of(translated) == FAMILY.converted_shapes(spec)
    assert spec.qkv_bias == ("blocks.0.attn.q_bias" in state_dict) == ("bias of key" in did)


def test_the_authors_sapiens2_is_named() -> None:
    keys = ("storage_tokens", "blocks.0.attn.wq.weight", "blocks.0.ffn.w12.weight")
    with pytest.raises(CheckpointError, match="a checkpoint of Sapiens2, which is not converted"):
        recognise_shapes({key: torch.zeros(2, 2) for key in keys})


@pytest.mark.parametrize("left_out", ["", "gamma"])
def test_the_authors_file_is_left_as_it_is(left_out: str) -> None:
    recorded = read_golden("dinov3_tiny").recorded
    state_dict = {key: tensor for key, tensor in recorded.items() if not left_out or not key.endswith(left_out)}
    translated, did = FAMILY.translate(state_dict, {"architecture": PLAIN})
    assert did == ""
    assert translated.keys() == state_dict.keys()


@pytest.mark.parametrize("part", ["q_bias", "v_bias"])
def test_half_of_a_bias_is_refused_by_name(part: str, tmp_path: Path) -> None:
    written = make("biases", tmp_path)
    untranslated = dict(written.checkpoint.untranslated or {})
    del untranslated[f"blocks.1.attn.{part}"]
    other = {"q_bias": "v_bias", "v_bias": "q_bias"}[part]
    with pytest.raises(
        CheckpointError, match=rf"no pairs of one width\.\n  - blocks\.1\.attn\.{other} \(128,\)\nA model"
    ):
        FAMILY.translate(untranslated, written.description)


@pytest.mark.parametrize(("changed", "says"), [
    ({"depth": 3}, "depth: 3 in config.json, 2 by the tensors"),
    ({"num_reg_tokens": 2}, "num_storage_tokens: 2 in config.json, 4 by the tensors"),
])  # fmt: skip
def test_a_config_json_of_another_model_is_noticed(changed: dict[str, int], says: str, tmp_path: Path) -> None:
    make("plain", tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["model_args"] |= changed
    path.write_text(json.dumps(content))
    with (
        pytest.raises(CheckpointError, match=f"describes another model.*\\n.*{says}"),
        warnings.catch_warnings(action="ignore"),
    ):
        conversion.load_checkpoint(tmp_path)


def test_heads_that_config_json_has_otherwise_fail_at_the_first_attention(tmp_path: Path) -> None:
    """Timm's code is built from config.json; the converted model goes by another number of heads."""
    written = make("plain", tmp_path / "timm")
    described = {**written.description, "model_args": {**written.description["model_args"], "num_heads": 4}}
    result = verify(Written(written.model, written.checkpoint, described))
    assert next(point.point for point in result.points if point.verdict is Verdict.FAILED) == "block.0.attention"


def test_a_model_with_a_crop_is_refused(tmp_path: Path) -> None:
    """The image processor of transformers' DINOv3 has none."""
    written = make("plain", tmp_path)
    with pytest.raises(VariantError, match=r"crop_pct: config\.json, .* says 1, not 0\.875"):
        conversion.convert(written.checkpoint.state_dict, crop_pct=0.875)
    told = {name: each for name, each in written.checkpoint.state_dict.told.items() if name != "crop_pct"}
    state_dict = ToldStateDict(written.checkpoint.state_dict, told, written.checkpoint.state_dict.writer)
    with pytest.raises(
        CheckpointError, match=r"crop_pct is told as 0\.875; .*resizes the whole image.*\n.*--crop-pct 1"
    ):
        conversion.convert(state_dict, crop_pct=0.875)
