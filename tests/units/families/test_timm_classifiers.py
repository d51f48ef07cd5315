"""Classifiers that timm puts on DINOv2: one vector goes into the head, where transformers' takes two."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import conversion
from conversion.artifact.load import load_model
from conversion.errors import CheckpointError, VariantError
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from tests.support.timm_models import Written, convert, list_verdicts, verify, write

SMALL: dict[str, Any] = {"img_size": 70, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 10}
IMAGES: dict[str, Any] = {
    "image_mean": (0.5,) * 3,
    "image_std": (0.5,) * 3,
    "crop_pct": 1.0,
    "interpolation": "bicubic",
}
PLAIN, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"

CLASSIFIERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "token": (PLAIN, {}, 0),
    "registers": (REGISTERS, {}, 0),
    "mean": (PLAIN, {"global_pool": "avg", "fc_norm": False}, 1),
    "mean with registers": (REGISTERS, {"global_pool": "avg", "fc_norm": False}, 1),
}
"""Architecture, arguments, and which half of transformers' head it is."""


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_converted_classifier_is_timms(name: str, tmp_path: Path) -> None:
    architecture, arguments, _ = CLASSIFIERS[name]
    written = write(tmp_path, architecture, {**SMALL, **arguments})
    for is_described in (True, False):
        result = verify(written, 2, is_described=is_described)
        assert {"pooled", "logits", "returned.logits"} <= {point.point for point in result.points if point.difference}
        assert list_verdicts(result) <= {Verdict.EXACT, Verdict.CLOSE}
    assert list_verdicts(verify(written, 2, "eager")) <= {Verdict.EXACT, Verdict.CLOSE}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_zeros_stand_for_what_the_head_does_not_take(name: str, tmp_path: Path) -> None:
    architecture, arguments, half = CLASSIFIERS[name]
    written = write(tmp_path / "timm", architecture, {**SMALL, **arguments})
    out = convert(written, 2)
    weight = out.state_dict["classifier.weight"].chunk(2, dim=1)
    assert is_bit_equal(weight[half].contiguous(), written.model.state_dict()["head.weight"])
    assert not weight[1 - half].any()
    assert out.told["global_pool"].value == ("token", "avg")[half]
    assert any("zeros stand for its weights" in note for note in out.notes)
    place = conversion.save_artifact(out, tmp_path / "artifact")
    model = load_model(place, attention="sdpa", dtype="float32")
    pixel_values = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(model(pixel_values).logits, written.model(pixel_values), atol=1e-5)
    files = conversion.restore_checkpoint(place, tmp_path / "back.pth")
    assert torch.load(files[1])["weight"].shape == (10, 256)


def test_timms_own_head_is_in_the_original(tmp_path: Path) -> None:
    """Its logits are those of the whole model of timm's, bit for bit, whatever is put before it."""
    from conversion.families.base import load_family

    written = write(tmp_path, PLAIN, SMALL)
    out, untranslated = convert(written, 2), written.checkpoint.untranslated or {}
    original = load_family("dinov2").load_timm(out.spec, untranslated, written.description)
    pixel_values = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert is_bit_equal(original(pixel_values)["logits"], written.model(pixel_values))
    assert original.state_dict().keys() == written.model.state_dict().keys()


def test_the_wrong_half_is_noticed(tmp_path: Path) -> None:
    """Timm's code, built from its config.json, pools the CLS token; the converted head is put on the mean."""
    written = write(tmp_path, PLAIN, SMALL)
    result = verify(mislead(written, tmp_path / "bare"), 2)
    assert [point.point for point in result.points if point.verdict is Verdict.FAILED] == ["logits", "returned.logits"]


def mislead(written: Written, folder: Path) -> Written:
    """The same model, with another pooling told than that of its ``config.json``."""
    from dataclasses import replace

    from conversion.families.told import Told, ToldStateDict

    folder.mkdir()
    read = written.checkpoint.state_dict
    told = {**read.told, "global_pool": Told("avg", "somebody")}
    return replace(written, checkpoint=replace(written.checkpoint, state_dict=ToldStateDict(read, told, read.writer)))


def test_the_pooling_of_a_file_alone_has_to_be_told(tmp_path: Path) -> None:
    """Set after building, mean pooling leaves the tensors of token pooling: nobody can tell them apart."""
    write(tmp_path / "timm", PLAIN, SMALL)
    (tmp_path / "bare").mkdir()
    shutil.copy(tmp_path / "timm" / "model.safetensors", tmp_path / "bare")
    with warnings.catch_warnings(action="ignore"):
        bare = conversion.load_checkpoint(tmp_path / "bare")
        told: dict[str, Any] = {"num_attention_heads": 2, **IMAGES}
        with pytest.raises(CheckpointError, match="global_pool: give --global-pool as it was in training"):
            conversion.convert(bare, **told)
        for half, pooling in enumerate(("token", "avg")):
            out = conversion.convert(bare, **told, global_pool=pooling)
            assert not out.state_dict["classifier.weight"].chunk(2, dim=1)[1 - half].any()
        with pytest.raises(VariantError, match="global_pool: 'max' is not supported; only 'token', 'avg'"):
            conversion.convert(bare, **told, global_pool="max")
        with pytest.raises(VariantError, match=r"this one takes one of both\.\nName no variant, .*--global-pool avg"):
            conversion.convert(bare, "dinov2_vits14_1layer")


def test_config_json_tells_a_pooling_that_was_set_after_building(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    model = timm.create_model(PLAIN, **SMALL).eval()
    model.reset_classifier(10, "avg")
    small = {name: value for name, value in SMALL.items() if name != "num_classes"}
    save_for_hf(model, str(tmp_path), model_args={**small, "fc_norm": False}, safe_serialization=True)
    with warnings.catch_warnings(action="ignore"):
        checkpoint = read_checkpoint(tmp_path)
        out = conversion.convert(checkpoint.state_dict)
    assert out.told["global_pool"].value == "avg"
    assert not out.state_dict["classifier.weight"].chunk(2, dim=1)[0].any()
