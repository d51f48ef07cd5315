"""Data2Vec-Vision: what is recognised, written, refused and assumed; and every feature that a checkpoint may have."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

import conversion
from conversion import VARIANTS
from conversion.artifact.load import load_converted
from conversion.artifact.weights import read_tensors
from conversion.errors import CheckpointError, KeyMapError
from conversion.families.beit_architecture.original import index_offsets
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.labels import choose_labels
from conversion.families.target import TRANSFORMERS_MAJORS, transformers_major
from conversion.intake.synthetic import draw_state_dict, write_synthetic_checkpoint
from conversion.mapping.key_map import convert, drop
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import MODEL_CARD, PARITY_CARD
from conversion.suite.inputs import list_inputs
from tests.support.data2vec_vision import (
    CLASSIFIER,
    FAMILY,
    PRETRAINED,
    SEGMENTATION,
    convert_quietly,
    official_tensors,
    tell,
)
from tests.support.golden import GoldenModel
from tests.support.runs import run_original, verify_input
from tests.support.strategies import beit_like_specs

OFFICIAL = [name for name, variant in VARIANTS.items() if variant.family == "data2vec_vision"]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_config_says_what_the_original_is(name: str) -> None:
    """Written out here once more, so that a wrong value in the converter has something to be held against."""
    config = convert_quietly(official_tensors(name), **tell(FAMILY.spec_of(VARIANTS[name]))).config
    size, _, task = name.removeprefix("data2vec_vision_").partition("_")
    width, depth, heads = {"base": (768, 12, 12), "large": (1024, 24, 16)}[size]
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (width, depth, heads)
    assert (config.intermediate_size, config.hidden_act, config.layer_norm_eps) == (4 * width, "gelu", 1e-6)
    assert (config.patch_size, config.image_size) == (16, 512 if task == "ade20k" else 224)
    assert config.use_mask_token == (task == "")
    assert config.use_shared_relative_position_bias == (task == "")
    assert config.use_relative_position_bias == (task != "")
    assert config.use_mean_pooling == (task != "")
    assert not config.use_absolute_position_embeddings
    assert config.num_labels == {"": 2, "ft1k": 1000, "ade20k": 150}[task]
    if task == "ade20k":
        assert list(config.out_indices) == {"base": [5, 7, 9, 13], "large": [9, 13, 17, 25]}[size]
        assert list(config.pool_scales) == [1, 2, 3, 6]
        assert (config.use_auxiliary_head, config.auxiliary_channels) == (True, 256)
    head = {"": "Model", "ft1k": "ForImageClassification", "ade20k": "ForSemanticSegmentation"}[task]
    assert config.architectures == [f"Data2VecVision{head}"]


@settings(deadline=None, max_examples=100)
@given(beit_like_specs(Data2VecVisionSpec))
def test_every_combination_of_features_is_recognised_and_read_back(spec: Data2VecVisionSpec) -> None:
    assert FAMILY.recognise_spec(FAMILY.converted_shapes(spec), **tell(spec)) == spec
    assert FAMILY.read_spec(FAMILY.build_config(spec, choose_labels(spec.task, spec.num_classes, None)), spec) == spec


FEATURES = {
    "both tables": (PRETRAINED, {"block_position_bias": True}),
    "no mask token": (PRETRAINED, {"mask_token": False}),
    "absolute positions": (PRETRAINED, {"absolute_positions": True}),
    "absolute positions alone": (PRETRAINED, {"absolute_positions": True, "shared_position_bias": False}),
    "a shared table in a classifier": (CLASSIFIER, {"shared_position_bias": True, "block_position_bias": False}),
    "the CLS token pooled": (CLASSIFIER, {"mean_pooling": False}),
    "no auxiliary head": (SEGMENTATION, {"auxiliary_channels": 0}),
    "other pool scales": (SEGMENTATION, {"pool_scales": (1, 3)}),
    "other features": (SEGMENTATION, {"out_indices": (1, 2, 3, 4), "depth": 6}),
    "a masked segmentation": (SEGMENTATION, {"mask_token": True, "shared_position_bias": True}),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_model_with_any_feature_is_exact_with_eager(feature: str) -> None:
    golden, changes = FEATURES[feature]
    spec = replace(golden.spec, **changes)
    state_dict = draw_state_dict(FAMILY, spec, feature, 0)
    out = convert_quietly(state_dict, **tell(spec))
    assert out.spec == spec
    converted, original = load_converted(out, attention="eager"), FAMILY.load_original(spec, state_dict)
    cases = [case for case in list_inputs(spec, spec.image_size, None) if not case.photo]
    assert {case.name for case in cases} == {"native", "batch_2", *(["masked"] if spec.mask_token else [])}
    for case in cases:
        run = run_original(FAMILY, spec, original, case)
        result = verify_input(case.name, run, converted, FAMILY.find_deviation(spec, case.shape))
        assert {point.verdict for point in result.points} == {Verdict.EXACT}, result


def test_inputs_have_the_native_size_only() -> None:
    for name in OFFICIAL:
        spec = FAMILY.spec_of(VARIANTS[name])
        sizes = {(case.height, case.width) for case in list_inputs(spec, FAMILY.images.choose_input_size(spec), None)}
        assert sizes == {(spec.image_size, spec.image_size)}


def test_another_image_size_cannot_be_baked() -> None:
    with pytest.raises(CheckpointError, match="made for 80"):
        convert_quietly(PRETRAINED.recorded, image_size=96)
    assert convert_quietly(PRETRAINED.recorded, image_size=80).spec == PRETRAINED.spec


def test_the_original_refuses_images_of_another_size() -> None:
    model = FAMILY.load_original(PRETRAINED.spec, PRETRAINED.recorded)
    with pytest.raises(ValueError, match="96 x 80; this model takes 80 x 80"):
        model(torch.zeros(1, 3, 96, 80))


# what is dropped


def test_what_has_no_place_is_dropped_with_its_reason() -> None:
    out = convert_quietly(PRETRAINED.recorded)
    index = "rel_pos_bias.relative_position_index"
    assert out.dropped.keys() == {"lm_head.weight", "lm_head.bias", index}
    assert "no place" in out.dropped["lm_head.bias"]
    assert "window" in out.dropped[index]


def test_restore_computes_the_index_and_says_that_lm_head_is_gone() -> None:
    out = convert_quietly(PRETRAINED.recorded)
    with pytest.warns(UserWarning, match=r"gone: lm_head\.weight, lm_head\.bias \(.*no place"):
        restored = conversion.restore(out.state_dict, out.config)
    assert PRETRAINED.recorded.keys() - restored.keys() == {"lm_head.weight", "lm_head.bias"}
    assert all(is_bit_equal(tensor, PRETRAINED.recorded[key]) for key, tensor in restored.items())


def test_restore_puts_lm_head_back_where_it_is_given() -> None:
    out = convert_quietly(PRETRAINED.recorded)
    given = {key: PRETRAINED.recorded[key] for key in out.dropped}
    with warnings.catch_warnings(action="error"):
        restored = conversion.restore(out.state_dict, out.config, dropped=given)
        full = conversion.restore(out.state_dict, out.config, dropped=PRETRAINED.recorded)
    assert restored.keys() == full.keys() == PRETRAINED.recorded.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in PRETRAINED.recorded.items())


def test_a_checkpoint_without_what_is_dropped_converts_the_same() -> None:
    kept, _ = drop(PRETRAINED.recorded, FAMILY.dropped)
    assert convert_quietly(kept).state_dict.keys() == convert_quietly(PRETRAINED.recorded).state_dict.keys()


def test_an_index_that_does_not_follow_from_the_size_is_refused() -> None:
    key = "blocks.1.attn.relative_position_index"
    odd = CLASSIFIER.recorded | {key: CLASSIFIER.recorded[key].flip(0)}
    with pytest.raises(KeyMapError, match=r"blocks\.1\.attn\.relative_position_index: \(26, 26\) torch\.int64"):
        conversion.convert(odd)


def test_the_index_is_the_recorded_one() -> None:
    assert is_bit_equal(index_offsets(5), PRETRAINED.recorded["rel_pos_bias.relative_position_index"])
    assert is_bit_equal(index_offsets(6), SEGMENTATION.recorded["backbone.blocks.0.attn.relative_position_index"])


# class names


def test_class_names_are_the_users_else_imagenets_else_numbers() -> None:
    official = official_tensors("data2vec_vision_base_ft1k")
    assert convert_quietly(official).config.id2label[0] == "tench, Tinca tinca"
    assert convert_quietly(CLASSIFIER.recorded).config.id2label[9] == "LABEL_9"
    names = [f"thing {index}" for index in range(6)]
    config = convert_quietly(SEGMENTATION.recorded, **SEGMENTATION.overrides, labels=names).config
    assert config.id2label == dict(enumerate(names))
    assert config.label2id["thing 5"] == 5
    with pytest.raises(CheckpointError, match="5 class names were given; the model has 6 classes"):
        convert_quietly(SEGMENTATION.recorded, **SEGMENTATION.overrides, labels=names[:5])


# the layouts of two major versions


@pytest.mark.parametrize("golden", [PRETRAINED, CLASSIFIER, SEGMENTATION], ids=lambda golden: golden.name)
def test_the_cards_say_which_major_reads_the_file(golden: GoldenModel, tmp_path: Path) -> None:
    conversion.save_artifact(convert_quietly(golden.recorded, **golden.overrides), tmp_path / "tiny")
    is_segmentation = golden is SEGMENTATION
    majors = [transformers_major()] if is_segmentation else list(TRANSFORMERS_MAJORS)
    card = json.loads((tmp_path / "tiny" / PARITY_CARD).read_text())
    assert card["layout"] == [f"transformers {major}" for major in majors]
    said = f"names of transformers {transformers_major()}:" in (tmp_path / "tiny" / MODEL_CARD).read_text()
    assert said == is_segmentation


@pytest.mark.parametrize("major", TRANSFORMERS_MAJORS)
def test_a_segmentation_model_of_either_major_is_restored(major: int) -> None:
    out = convert_quietly(SEGMENTATION.recorded, **SEGMENTATION.overrides)
    converted = convert(out.source, FAMILY.expand_key_map(out.spec, major))
    restored = conversion.restore(converted, out.config)
    assert restored.keys() == SEGMENTATION.recorded.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in SEGMENTATION.recorded.items())


def test_counters_of_batch_norm_are_kept_as_whole_numbers(tmp_path: Path) -> None:
    counter = "decode_head.fpn_bottleneck.bn.num_batches_tracked"
    counted = SEGMENTATION.recorded | {counter: torch.tensor(2**40 + 1)}
    out = convert_quietly(counted, **SEGMENTATION.overrides)
    conversion.save_artifact(out, tmp_path / "tiny")
    restored = conversion.restore(read_tensors(tmp_path / "tiny"), out.config)
    assert is_bit_equal(restored[counter], counted[counter])
    with pytest.raises(KeyMapError, match=r"wrong dtype: decode_head\.fpn_bottleneck\.bn.* torch\.float32, .*expected"):
        convert_quietly(SEGMENTATION.recorded | {counter: torch.tensor(3.0)}, **SEGMENTATION.overrides)


# files


@pytest.mark.parametrize("name", ["data2vec_vision_base", "data2vec_vision_base_ft1k", "data2vec_vision_base_ade20k"])
def test_synthetic_files_are_what_training_saves(name: str, tmp_path: Path) -> None:
    paths = write_synthetic_checkpoint(VARIANTS[name], tmp_path, seed=0)
    assert list(paths) == ["checkpoint"]
    content = torch.load(paths["checkpoint"], weights_only=True, mmap=True)
    entry = {"": "model", "ft1k": "module", "ade20k": "state_dict"}[
        name.removeprefix("data2vec_vision_base").strip("_")
    ]
    assert len(content) > 1
    shapes = {key: tuple(tensor.shape) for key, tensor in content[entry].items()}
    assert shapes == FAMILY.original_shapes(FAMILY.spec_of(VARIANTS[name]))
    assert conversion.convert(conversion.load_checkpoint(paths["checkpoint"]), name).variant == name


def test_a_segmentation_models_backbone_prefix_stays_and_a_wrapped_models_goes(tmp_path: Path) -> None:
    wrapped = {f"module.{key}": tensor for key, tensor in SEGMENTATION.recorded.items()}
    torch.save({"state_dict": wrapped, "meta": {"iter": 1}}, tmp_path / "iter_1.pth")
    assert conversion.load_checkpoint(tmp_path / "iter_1.pth").keys() == SEGMENTATION.recorded.keys()
    backbone = {f"backbone.{key}": tensor for key, tensor in PRETRAINED.recorded.items()}
    torch.save(backbone, tmp_path / "backbone.pth")
    assert conversion.load_checkpoint(tmp_path / "backbone.pth").keys() == PRETRAINED.recorded.keys()
