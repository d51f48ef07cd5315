"""BEiT: both versions, what tells them apart, the feature out of reach, and what is refused."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.artifact.stage import save_artifact
from conversion.cli.app import main
from conversion.errors import CheckpointError, ConversionError, VariantError
from conversion.families.images import HALF, IMAGENET_MEAN, IMAGENET_STD
from conversion.families.variants import VARIANTS
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import LEFT_OUT, PARITY_CARD, read_settings
from tests.support.beit import FAMILY, convert, draw, verify
from tests.support.clones import write_clone
from tests.support.golden import BEIT, NORMALISATION, PHOTOS, read_golden, read_json
from tests.support.timm_models import convert as convert_timms
from tests.support.timm_models import list_verdicts, write
from tests.support.timm_models import verify as verify_timms

PRETRAINED, CLASSIFIER = read_golden("beit_tiny_pt"), read_golden("beit_tiny_ft")
V2 = replace(PRETRAINED.spec, num_cls_layers=2, **PHOTOS)  # type: ignore[type-var]
V1_NAME, V2_NAME = "beit_base_patch16_224_pt22k", "beitv2_base_patch16_224_pt1k"


def explain(state_dict: Mapping[str, Tensor], **settings: Any) -> str:
    with pytest.raises(ConversionError) as raised:
        conversion.convert(state_dict, **settings)
    return str(raised.value)


def test_a_pretrained_model_without_its_head_is_the_backbone_of_the_official_converter() -> None:
    kept = {key: tensor for key, tensor in PRETRAINED.state_dict.items() if not key.startswith("lm_head.")}
    out = convert(kept)
    assert out.architecture == "BeitModel"
    recorded = read_json("converted_sha256.json")["beit_tiny_pt#BeitModel"]
    content = {key: tensor.contiguous().numpy().tobytes() for key, tensor in out.state_dict.items()}
    hashes = {key: hashlib.sha256(each).hexdigest() for key, each in content.items()}
    assert hashes == {key: each["sha256"] for key, each in recorded.items()}
    assert verify(out).verdict is Verdict.EXACT


@pytest.mark.parametrize("name", BEIT)
def test_the_version_is_told_and_never_assumed(name: str) -> None:
    golden = read_golden(name)
    family = {} if golden.spec.task == "masked-image-modeling" else {"family": "beit"}
    said = explain(golden.state_dict, **family)
    assert "do not tell these settings" in said
    assert "image_mean: give --image-mean as it was in training\n" in said
    assert "image_std: give --image-std as it was in training\n" in said
    for mean, std in ((HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD)):
        out = conversion.convert(golden.state_dict, **family, image_mean=mean, image_std=std)
        assert out.preprocessor["image_mean"] == list(mean)
        assert out.preprocessor["image_std"] == list(std)
        assert out.variant == "beit_or_beitv2"


def test_an_official_model_of_these_shapes_does_not_tell_the_version() -> None:
    state_dict = FAMILY.original_tensors(FAMILY.spec_of(VARIANTS[V1_NAME]))
    assert "image_mean: give --image-mean" in explain(state_dict)
    named = conversion.convert(draw(FAMILY.spec_of(small(V1_NAME))), **NORMALISATION)
    assert named.variant == "beit_or_beitv2"


def small(name: str) -> Any:
    return replace(VARIANTS[name], spec={**VARIANTS[name].spec, "embed_dim": 48, "num_heads": 3, "depth": 2})


@pytest.mark.parametrize("name", [V1_NAME, f"{V2_NAME}_300e", "beitv2_large_patch16_224_pt1k_ft21kto1k"])
def test_a_name_tells_the_version(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conversion.families import variants

    monkeypatch.setitem(variants._BY_NAME, name, small(name))
    out = conversion.convert(draw(FAMILY.spec_of(small(name))), variant=name)
    assert out.variant == name
    is_second = name.startswith("beitv2")
    assert out.preprocessor["image_mean"] == list(IMAGENET_MEAN if is_second else HALF)
    assert verify(out).verdict is Verdict.EXACT
    # the card may say any of the names that models of this spec have
    torch.save({"model": dict(out.source)}, tmp_path / "file.pth")
    assert main(["convert", str(tmp_path / "file.pth"), "--variant", name, "-o", str(tmp_path / "artifact")]) == 0
    conversion.check_card(tmp_path / "artifact")
    assert read_settings(tmp_path / "artifact" / PARITY_CARD)["variant"] == name


def test_a_classifier_of_which_nobody_tells_whose_it_is_is_of_either() -> None:
    out = conversion.convert(CLASSIFIER.state_dict, **NORMALISATION)
    assert out.variant == "data2vec_vision_or_beit_or_beitv2"
    assert out.architecture == "Data2VecVisionForImageClassification"
    told = conversion.convert(CLASSIFIER.state_dict, family="beit", **NORMALISATION)
    assert told.architecture == "BeitForImageClassification"
    assert told.told["family"].value == "beit"
    mine = conversion.convert(CLASSIFIER.state_dict, family="data2vec_vision", **NORMALISATION)
    assert mine.architecture == "Data2VecVisionForImageClassification"


@pytest.mark.parametrize("options", [{"use_post_norm": True}, {"init_values": 1.0, "use_rot_pos_emb": True}])
def test_timm_s_evas_are_not_taken_for_one(options: dict[str, Any], tmp_path: Path) -> None:
    """Some norm after their blocks, some have rotary positions. Their keys are those of a BEiT without tables."""
    from timm.models.eva import Eva  # here, since it takes long to import

    eva = Eva(img_size=28, patch_size=14, embed_dim=48, depth=2, num_heads=3, num_classes=10, **options)
    torch.save(eva.state_dict(), tmp_path / "eva.pth")
    state_dict, settings = conversion.load_checkpoint(tmp_path / "eva.pth"), {"num_attention_heads": 3, **NORMALISATION}
    assert "family: give --family if it is such a model; other kinds have the same keys" in explain(
        state_dict, **settings
    )
    told = conversion.convert(state_dict, **settings, family="beit").told
    assert told["family"].value == "beit"


@pytest.mark.parametrize(("spec", "named", "message"), [
    (V2,              "data2vec_vision_base", "of a beit model; data2vec_vision_base was asked for"),
    (PRETRAINED.spec, "data2vec_vision_base", "of a beit model; data2vec_vision_base was asked for"),
    (V2,              "dinov2_vitb14",        "of a beit model; dinov2_vitb14 was asked for"),
    (V2,              V1_NAME,                "weights of another beit model"),
    (PRETRAINED.spec, V2_NAME,                "weights of another beit model"),
])  # fmt: skip
def test_a_beit_named_as_something_else_is_refused(spec: Any, named: str, message: str) -> None:
    assert message in explain(draw(spec), variant=named)


def test_a_data2vec_model_named_or_told_as_a_beit_is_refused() -> None:
    golden = read_golden("data2vec_vision_tiny")
    assert "of another beit model" in explain(golden.state_dict, variant=V1_NAME)
    said = explain(PRETRAINED.state_dict, family="data2vec_vision", **NORMALISATION)
    assert "family was given as data2vec_vision; these are the keys of a beit model." in said
    said = explain(golden.state_dict, family="beit", variant="data2vec_vision_base")
    assert "data2vec_vision_base has family data2vec_vision, not beit" in said


def test_what_v2_trains_beside_is_kept_beside_and_comes_back(tmp_path: Path) -> None:
    state_dict = draw(V2)
    extra = {key for key in state_dict if key.startswith("cls_pt_layers.")}
    assert len(extra) == 2 * 15
    out = conversion.convert(state_dict, **PHOTOS)
    assert (out.spec, out.variant) == (V2, "beit_custom")
    assert out.left_out.keys() == extra
    assert out.config.num_cls_layers == 2
    assert verify(out).verdict is Verdict.EXACT
    folder = save_artifact(out, tmp_path / "artifact")
    assert (folder / LEFT_OUT).is_file()
    back = read_checkpoint(folder).state_dict
    assert back.keys() == state_dict.keys()
    assert all(is_bit_equal(tensor, back[key]) for key, tensor in state_dict.items())


@pytest.mark.parametrize("extra", ["cls_pt_norm.weight", "cls_pt_lm_head.weight"])
def test_a_head_of_its_own_for_the_class_token_is_dropped_by_name(extra: str) -> None:
    out = conversion.convert({**draw(V2), extra: torch.zeros(3)}, **PHOTOS)
    assert "used in training only" in out.dropped[extra]


@pytest.mark.parametrize("task", ["masked-image-modeling", "image-classification"])
def test_absolute_positions_and_no_layer_scale(task: str) -> None:
    plain: dict[str, Any] = {"task": task, "num_classes": 0, "mask_token": True, "absolute_positions": True}
    if task == "image-classification":
        plain |= {"num_classes": 5, "mask_token": False, "vocab_size": 0, "mean_pooling": True}
    spec = replace(PRETRAINED.spec, shared_position_bias=False, layer_scale=False, **plain)  # type: ignore[type-var]
    state_dict = draw(spec)
    assert "num_attention_heads: give" in explain(state_dict, **NORMALISATION)
    out = convert(state_dict, num_attention_heads=2)
    assert out.spec == spec
    assert out.config.layer_scale_init_value == 0
    assert verify(out).verdict is Verdict.EXACT


TABLE = "rel_pos_bias.relative_position_bias_table"


def drop(key: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state_dict: {name: tensor for name, tensor in state_dict.items() if not name.startswith(key)}


@pytest.mark.parametrize(("change", "message"), [
    (drop("lm_head.weight"),                              "lm_head.weight: missing, needed with 2 dimension(s)"),
    (lambda each: {**each, "lm_head.weight": torch.ones(24)}, "lm_head.weight: (24,), needed with 2"),
    (lambda each: {**each, "lm_head.weight": torch.ones(0, 32)}, "lm_head.weight: (0, 32), needed with 2"),
    (lambda each: {**each, TABLE: torch.ones(3 * 9 + 3, 2)}, f"{TABLE} (30, 2): 30 rows"),
    (lambda each: {**each, "pos_embed": torch.ones(1, 17, 32)}, "different image sizes"),
])  # fmt: skip
def test_a_head_or_a_window_that_cannot_be_is_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    assert message in explain(change(dict(PRETRAINED.state_dict)), family="beit", **NORMALISATION)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("lm_head.", "lm_head.weight: missing, though there are blocks of BEiT v2's pretraining"),
        ("cls_pt_layers.0.", "cls_pt_layers.0.*: missing, though there are blocks up to 1"),
    ],
)
def test_a_part_of_v2_s_pretraining_is_refused(gone: str, message: str) -> None:
    assert message in explain(drop(gone)(draw(V2)), **PHOTOS)


def test_the_authors_model_of_v2_is_the_bundled_one(tmp_path: Path) -> None:
    clone, state_dict = write_clone("beit", tmp_path / "unilm"), draw(V2)
    pixel_values = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(1))
    bundled, external = (FAMILY.load_original(V2, state_dict, place) for place in (None, clone))
    with torch.inference_mode():
        expected, actual = bundled(pixel_values), external(pixel_values)
    assert all(is_bit_equal(actual[key], tensor) for key, tensor in expected.items())
    with pytest.raises(CheckpointError, match="without lm_head"):
        FAMILY.build_external(replace(PRETRAINED.spec, task="backbone"), clone)  # type: ignore[type-var]


TIMMS = "beitv2_base_patch16_224"
SMALL = {"img_size": 64, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 5}


def test_timm_s_beitv2_tells_family_and_normalisation(tmp_path: Path) -> None:
    written = write(tmp_path, TIMMS, SMALL)
    out = convert_timms(written, 2)
    assert out.architecture == "BeitForImageClassification"
    assert out.preprocessor["image_mean"] == list(IMAGENET_MEAN)
    assert out.preprocessor["image_std"] == list(IMAGENET_STD)
    assert out.told["family"].by == f"config.json, {TIMMS}"
    assert list_verdicts(verify_timms(written, 2, "eager")) == {Verdict.EXACT}
    with pytest.raises(VariantError, match="family data2vec_vision, not beit"):
        conversion.convert(written.checkpoint.state_dict, variant="data2vec_vision_base_ft1k")
