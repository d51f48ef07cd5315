"""Data2Vec-Vision: bad input, and what shapes cannot tell."""

import re
from pathlib import Path

import pytest
import torch

import conversion
from conversion.artifact.load import load_converted
from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.settings import option_of
from conversion.families.told import CALLER, Told
from conversion.families.variants import VARIANTS
from tests.support.data2vec_vision import CLASSIFIER, PRETRAINED, SEGMENTATION, convert_quietly, official_tensors, tell
from tests.support.golden import read_golden

RECIPE = CLASSIFIER.family.spec_of(VARIANTS["data2vec_vision_base_ade20k"])


def test_tables_of_different_windows_are_named() -> None:
    key = "blocks.1.attn.relative_position_bias_table"
    with pytest.raises(CheckpointError, match=rf"(?s)different image sizes.*{re.escape(key)}: 6 x 6 patches"):
        convert_quietly(CLASSIFIER.recorded | {key: torch.zeros(124, 2)})


def test_a_table_of_another_window_than_the_variants_is_refused() -> None:
    name = "data2vec_vision_base_ft1k"
    with pytest.raises(VariantError, match=rf"another data2vec_vision model \(image_size 384, not 224\); {name} was"):
        conversion.convert(official_tensors(name, image_size=384), name)


@pytest.mark.parametrize("rows", [83, 85, 3, 7])
def test_a_table_of_no_square_window_is_refused(rows: int) -> None:
    key = "rel_pos_bias.relative_position_bias_table"
    with pytest.raises(CheckpointError, match=rf"{re.escape(key)}.*{rows} rows"):
        convert_quietly(PRETRAINED.recorded | {key: torch.zeros(rows, 2)})


def test_a_model_without_any_positions_is_refused() -> None:
    without = {key: tensor for key, tensor in PRETRAINED.recorded.items() if not key.startswith("rel_pos_bias.")}
    with pytest.raises(CheckpointError, match="neither pos_embed nor tables"):
        conversion.convert(without, num_attention_heads=2)


def test_tables_that_disagree_on_the_heads_are_refused() -> None:
    key = "blocks.1.attn.relative_position_bias_table"
    with pytest.raises(CheckpointError, match=rf"(?s)number of heads.*{re.escape(key)} \(84, 4\): 4 heads"):
        convert_quietly(CLASSIFIER.recorded | {key: torch.zeros(84, 4)})
    with pytest.raises(CheckpointError, match=r"(?s)was given as 4; its tables of relative positions differ.*heads"):
        convert_quietly(CLASSIFIER.recorded, num_attention_heads=4)


def test_a_segmentation_file_without_auxiliary_head_converts() -> None:
    without = {key: tensor for key, tensor in SEGMENTATION.recorded.items() if not key.startswith("auxiliary_head.")}
    out = convert_quietly(without, **SEGMENTATION.overrides)
    assert out.config.use_auxiliary_head is False
    assert load_converted(out).auxiliary_head is None
    official = official_tensors("data2vec_vision_base_ade20k", auxiliary_channels=0)
    assert convert_quietly(official, **tell(RECIPE)).variant == "data2vec_vision_or_beit_or_beitv2"
    with pytest.raises(VariantError, match=r"(?s)auxiliary_channels 0, not 256.*Name no variant"):
        conversion.convert(official, "data2vec_vision_base_ade20k")


def test_a_checkpoint_without_its_model_entry_says_what_is_there(tmp_path: Path) -> None:
    torch.save({"optimizer": {"state": {}}, "epoch": 799}, tmp_path / "checkpoint-799.pth")
    with pytest.raises(
        CheckpointError, match=r"(?s)checkpoint-799\.pth.*'optimizer'.*'epoch'.*save the state dict alone"
    ):
        conversion.load_checkpoint(tmp_path / "checkpoint-799.pth")


def test_a_classifier_of_other_heads_than_the_variants_is_refused() -> None:
    name = "data2vec_vision_base_ft1k"
    with pytest.raises(VariantError, match=r"another data2vec_vision model \(num_heads 6, not 12\)"):
        conversion.convert(official_tensors(name, num_heads=6), name)


def test_tables_whose_heads_do_not_divide_the_width_are_named() -> None:
    table = "rel_pos_bias.relative_position_bias_table"
    with pytest.raises(CheckpointError, match=r"(?s)3 attention heads, as its tables have.*rel_pos_bias.*3 heads"):
        convert_quietly(PRETRAINED.recorded | {table: torch.zeros(84, 3)})


def test_a_backbone_without_its_decode_head_says_so() -> None:
    without = {key: tensor for key, tensor in SEGMENTATION.recorded.items() if not key.startswith("decode_head.")}
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(without)
    assert raised.value.problems == (
        "decode_head.conv_seg.weight: missing, needed with 4 dimension(s), none of them 0",
    )


@pytest.mark.parametrize("key", ["blocks.0.attn.relative_position_index", "x.y_relative_position_index"])
def test_an_index_that_nothing_goes_by_is_refused(key: str) -> None:
    with pytest.raises(KeyMapError, match=re.escape(key)):
        convert_quietly(PRETRAINED.recorded | {key: torch.zeros(3, 3, dtype=torch.int64)})


def test_sparse_whole_numbers_are_refused() -> None:
    counter, index = "backbone.fpn1.1.num_batches_tracked", "backbone.blocks.0.attn.relative_position_index"
    for key in (counter, index):
        sparse = SEGMENTATION.recorded[key].reshape(1, -1).to_sparse()
        with pytest.raises(KeyMapError, match=re.escape(key)):
            convert_quietly(SEGMENTATION.recorded | {key: sparse}, **SEGMENTATION.overrides)


def say(name: str, usual: str) -> str:
    return f"{name}: give {option_of(name)} as it was in training; most such models have {usual}"


def test_a_segmentation_model_of_a_recipes_shapes_is_not_taken_for_it() -> None:
    """It is a user's own, and may have been trained with other blocks, or be BEiT's."""
    official = official_tensors("data2vec_vision_base_ade20k")
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(official)
    assert say("out_indices", "3,5,7,11") in raised.value.problems
    assert say("pool_scales", "1,2,3,6") in raised.value.problems
    assert say("image_mean", "0.485,0.456,0.406") in raised.value.problems
    out = conversion.convert(official, "data2vec_vision_base_ade20k")  # who names it tells
    assert (out.variant, out.spec, out.notes) == ("data2vec_vision_base_ade20k", RECIPE, ())


def test_what_is_said_about_a_segmentation_model_is_refused_for_others() -> None:
    with pytest.raises(CheckpointError, match="no segmentation model"):
        convert_quietly(CLASSIFIER.recorded, out_indices=(0, 1, 2, 9))


@pytest.mark.parametrize(
    "given",
    [
        {"out_indices": 3},
        {"out_indices": "a,b"},
        {"out_indices": (-1, 0, 1, 2)},
        {"pool_scales": (1, 2.5, 3, 6)},
        {"pool_scales": (-1, 2, 3, 6)},
    ],
)
def test_what_is_no_number_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(VariantError, match=next(iter(given))):
        convert_quietly(SEGMENTATION.recorded, **{**SEGMENTATION.overrides, **given})


def test_numbers_may_come_in_any_sequence() -> None:
    overrides = SEGMENTATION.overrides | {"out_indices": range(4), "pool_scales": [1, 2, 3, 6]}
    assert convert_quietly(SEGMENTATION.recorded, **overrides).spec == SEGMENTATION.spec


def test_impossible_pool_scales_are_refused() -> None:
    with pytest.raises(CheckpointError, match="none may be below 1"):
        convert_quietly(SEGMENTATION.recorded, out_indices=(0, 1, 2, 3), pool_scales=(0, 0, 0, 0))


def test_a_mask_for_a_model_without_mask_token_is_refused() -> None:
    model = CLASSIFIER.family.load_original(CLASSIFIER.spec, CLASSIFIER.recorded)
    with pytest.raises(ValueError, match="no mask token"):
        model(torch.zeros(1, 3, 80, 80), torch.ones(1, 25, dtype=torch.bool))


@pytest.mark.parametrize("out_indices", [(0, 1, 2), (0, 1, 2, 4), (3, 2, 1, 0), (0, 0, 1, 2)])
def test_impossible_out_indices_are_refused(out_indices: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"out_indices.*needed four, in order, of 4 blocks"):
        convert_quietly(SEGMENTATION.recorded, out_indices=out_indices, pool_scales=(1, 2, 3, 6))


def test_out_indices_that_shapes_cannot_tell_are_asked_for() -> None:
    with pytest.raises(
        CheckpointError, match=r"(?m)out_indices: give --out-indices as it was in training$"
    ):  # of four blocks nothing is usual
        convert_quietly(SEGMENTATION.recorded, pool_scales=(1, 2, 3, 6))


def test_out_indices_that_are_told_are_taken() -> None:
    tensors = official_tensors("data2vec_vision_base_ade20k", num_classes=7)
    out = convert_quietly(tensors, pool_scales=[1, 2, 3, 6], out_indices=[2, 5, 8, 11])
    assert list(out.config.out_indices) == [4, 7, 10, 13]
    assert out.told["out_indices"] == Told((2, 5, 8, 11), CALLER)


def test_pool_scales_of_another_number_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"4 of them, for pool_scales \(1, 2\)"):
        convert_quietly(SEGMENTATION.recorded, out_indices=(0, 1, 2, 3), pool_scales=(1, 2))


def test_a_decode_head_of_another_width_is_refused() -> None:
    narrow = SEGMENTATION.recorded | {"decode_head.conv_seg.weight": torch.zeros(6, 16, 1, 1)}
    with pytest.raises(CheckpointError, match="16 channels; transformers' has the backbone's width, 32") as raised:
        conversion.convert(narrow, **SEGMENTATION.overrides)
    assert "--out-indices" not in str(raised.value)  # no option mends it


def test_a_pooling_module_that_is_missing_is_no_matter_of_options() -> None:
    gap = {key: each for key, each in SEGMENTATION.recorded.items() if "psp_modules.1." not in key}
    with pytest.raises(
        CheckpointError, match=r"psp_modules\.1\.\*: missing.*\nA model is converted whole: give a file"
    ):
        conversion.convert(gap, **SEGMENTATION.overrides)


def test_overrides_of_another_family_are_refused() -> None:
    golden = read_golden("dinov2_tiny")
    with pytest.raises(VariantError, match=r"A dinov2 model has no pool_scales\.\nLeave out --pool-scales\."):
        conversion.convert(golden.backbone, **golden.overrides, pool_scales=(1, 2))
    with pytest.raises(TypeError, match="number_of_heads"):
        conversion.convert(golden.backbone, number_of_heads=2)
    name = "data2vec_vision_base_ade20k"
    with pytest.raises(VariantError, match=rf"{name} has out_indices 3,5,7,11, not 0,1,2,3 \(the caller\)"):
        conversion.convert(official_tensors(name), name, out_indices=(0, 1, 2, 3))
