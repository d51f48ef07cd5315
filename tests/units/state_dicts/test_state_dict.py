"""The public conversion: what it recognises, refuses and assumes."""

import re
from dataclasses import replace

import pytest
import torch

import conversion
from conversion import VARIANTS, ConversionError
from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.base import load_family
from conversion.families.told import Told, ToldStateDict
from conversion.families.variants import find_variant
from conversion.parity.metrics import is_bit_equal
from tests.support.golden import NUM_HEADS, read_golden
from tests.support.recorded_keys import meta

FAMILY = load_family("dinov2")
DINOV2_VARIANTS = [name for name, variant in VARIANTS.items() if variant.family == "dinov2"]


def test_an_unknown_variant_suggests_the_nearest() -> None:
    with pytest.raises(VariantError, match=r"'dinov2_vitl41'.*\n.*dinov2_vitl14"):
        find_variant("dinov2_vitl41")
    with pytest.raises(VariantError, match=r"Known variants: dinov2_vits14"):
        find_variant("resnet")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("dinov2_vitb14", "dinov2_vits14"),
        ("dinov2_vits14_reg", "dinov2_vits14"),
        ("dinov2_vits14", "dinov2_vits14_reg"),
        ("dinov2_vits14", "dinov2_vits14_1layer"),
        ("dinov2_vits14_1layer", "dinov2_vits14"),
        ("dinov2_vitl14", "dinov2_vitg14"),
        ("data2vec_vision_base_ft1k", "data2vec_vision_base"),
        ("data2vec_vision_base", "data2vec_vision_base_ft1k"),
        ("data2vec_vision_large", "data2vec_vision_base"),
        ("data2vec_vision_base_ft1k", "data2vec_vision_base_ade20k"),
        ("data2vec_vision_large_ade20k", "data2vec_vision_large_ft1k"),
    ],
)
def test_weights_of_another_variant_are_refused_and_both_named(given: str, asked: str) -> None:
    with pytest.raises(VariantError) as raised:
        conversion.convert(meta(given), asked)
    assert re.search(rf"weights of {given};.* {asked} was asked for", str(raised.value))


@pytest.mark.parametrize(
    ("given", "asked"), [("dinov2_vitb14", "data2vec_vision_base"), ("data2vec_vision_base_ft1k", "dinov2_vitb14")]
)
def test_weights_of_another_family_are_named(given: str, asked: str) -> None:
    with pytest.raises(VariantError, match=f"weights of {given}; {asked} was asked for"):
        conversion.convert(meta(given), asked)


@pytest.mark.parametrize("asked", [None, "dinov2_vits14"])
def test_adapters_that_are_not_merged_are_refused_as_what_they_are(asked: str | None) -> None:
    adapted = read_golden("dinov2_tiny").backbone | {"blocks.0.attn.qkv.lora_A.weight": torch.ones(4, 32)}
    with pytest.raises(CheckpointError, match=r"adapters of PEFT"):
        conversion.convert(adapted, asked)


def test_a_linear_head_for_a_family_that_has_none_is_refused() -> None:
    head = {"weight": torch.zeros(10, 32), "bias": torch.zeros(10)}
    with pytest.raises(VariantError, match="data2vec_vision model has no linear head file"):
        conversion.convert(read_golden("data2vec_vision_tiny_ft1k").recorded, linear_head=head)


def test_a_classifier_without_its_head_says_what_to_give() -> None:
    with pytest.raises(VariantError, match="--linear-head"):
        conversion.convert(meta("dinov2_vitb14"), "dinov2_vitb14_1layer")


def test_a_linear_head_in_its_own_file_is_put_in() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    out = conversion.convert(golden.backbone, linear_head=golden.linear_head, num_attention_heads=NUM_HEADS)
    assert is_bit_equal(out.state_dict["classifier.weight"], golden.linear_head["weight"])
    with pytest.raises(
        KeyMapError, match=r"(?s)has a linear head of its own.*linear_head\.weight.*Leave --linear-head out"
    ):
        conversion.convert(golden.state_dict, linear_head=golden.linear_head, num_attention_heads=NUM_HEADS)


def test_a_head_of_four_layers_is_refused_as_what_it_is() -> None:
    golden = read_golden("dinov2_tiny_1layer")
    head = {"weight": torch.zeros(10, 5 * 32), "bias": torch.zeros(10)}
    with pytest.raises(
        CheckpointError, match=r"(?s)linear head's file: .*\(10, 160\) is made for four layers.*without a 4"
    ):
        conversion.convert(golden.backbone, linear_head=head, num_attention_heads=NUM_HEADS)


def test_an_impossible_number_of_heads_is_refused() -> None:
    with pytest.raises(CheckpointError, match="width of 32 cannot have 3 attention heads"):
        conversion.convert(read_golden("dinov2_tiny").backbone, num_attention_heads=3)


def test_heads_that_contradict_the_variant_are_refused() -> None:
    with pytest.raises(VariantError, match="dinov2_vits14 has num_attention_heads 6, not 12"):
        conversion.convert(meta("dinov2_vits14"), "dinov2_vits14", num_attention_heads=12)


def test_damaged_tensors_of_a_known_variant_are_all_named() -> None:
    state_dict = meta("dinov2_vits14")
    state_dict["extra"] = torch.empty(3, device="meta")
    state_dict["blocks.3.attn.qkv.weight"] = state_dict["blocks.3.attn.qkv.weight"].T
    state_dict["blocks.7.norm1.gain"] = state_dict.pop("blocks.7.norm1.weight")
    with pytest.raises(KeyMapError) as raised:
        conversion.convert(state_dict, "dinov2_vits14")
    assert len(raised.value.problems) == 4
    for named in ("dinov2_vits14", "extra", "norm1.weight", "norm1.gain", "(384, 1152)", "(transposed?)"):
        assert named in str(raised.value)


@pytest.mark.parametrize("missing", ["pos_embed", "patch_embed.proj.weight"])
def test_a_missing_tensor_that_recognition_needs_is_named(missing: str) -> None:
    state_dict = {key: value for key, value in read_golden("dinov2_tiny").backbone.items() if key != missing}
    with pytest.raises(ConversionError, match=missing):
        conversion.convert(state_dict, num_attention_heads=NUM_HEADS)


def test_a_missing_block_is_named() -> None:
    state_dict = {k: v for k, v in read_golden("dinov2_tiny").backbone.items() if not k.startswith("blocks.1.")}
    with pytest.raises(CheckpointError, match=r"blocks\.1\.\*: missing"):
        conversion.convert(state_dict, num_attention_heads=NUM_HEADS)


def test_positions_that_are_no_square_are_refused() -> None:
    state_dict = read_golden("dinov2_tiny").backbone | {"pos_embed": torch.zeros(1, 24, 32)}
    with pytest.raises(CheckpointError, match="23 patch positions do not form a square"):
        conversion.convert(state_dict, num_attention_heads=NUM_HEADS)


def test_nan_is_refused() -> None:
    state_dict = dict(read_golden("dinov2_tiny").backbone)
    state_dict["blocks.2.attn.proj.bias"] = torch.full((32,), float("nan"))
    with pytest.raises(KeyMapError, match=r"blocks\.2\.attn\.proj\.bias: 32 of 32 values are NaN or Inf"):
        conversion.convert(state_dict, num_attention_heads=NUM_HEADS)


def test_foreign_keys_are_refused_with_what_was_found() -> None:
    with pytest.raises(CheckpointError, match=r"no known family.*\n.*layer1\.0\.conv1"):
        conversion.convert({"layer1.0.conv1.weight": torch.zeros(1)})


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(KeyMapError, match="'epoch': a int"):
        conversion.convert({**read_golden("dinov2_tiny").backbone, "epoch": 3}, num_attention_heads=NUM_HEADS)  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="0 keys that belong to no known family"):
        conversion.convert({})


def test_training_heads_are_dropped_with_their_reason_and_come_back() -> None:
    golden = read_golden("dinov2_tiny")
    heads = {"dino_head.mlp.0.weight": torch.ones(1), "dino_head.mlp.1.num_batches_tracked": torch.tensor(7)}
    trained = golden.backbone | heads
    out = conversion.convert(trained, num_attention_heads=NUM_HEADS)
    assert out.dropped.keys() == heads.keys()
    restored = conversion.restore(out.state_dict, out.config, dropped=trained)
    assert restored.keys() == trained.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in trained.items())
    assert "training only" in out.dropped["dino_head.mlp.0.weight"]
    assert out.source.keys() == golden.backbone.keys()


def test_converting_is_pure_and_copies_nothing() -> None:
    golden = read_golden("dinov2_tiny_reg_1layer")
    before = {key: tensor.clone() for key, tensor in golden.state_dict.items()}
    state_dict = golden.state_dict
    out = conversion.convert(state_dict, **golden.overrides, image_size=42)
    assert state_dict.keys() == before.keys()
    assert all(is_bit_equal(tensor, state_dict[key]) for key, tensor in before.items())
    own = {tensor.untyped_storage().data_ptr() for tensor in state_dict.values()}
    new = [key for key, tensor in out.state_dict.items() if tensor.untyped_storage().data_ptr() not in own]
    assert new == ["dinov2_with_registers.embeddings.position_embeddings"]


def test_baking_changes_size_positions_and_processor_only() -> None:
    golden = read_golden("dinov2_tiny")
    plain = conversion.convert(golden.backbone, **golden.overrides)
    baked = conversion.convert(golden.backbone, **golden.overrides, image_size=42)
    assert (plain.config.image_size, baked.config.image_size) == (70, 42)
    assert baked.state_dict["embeddings.position_embeddings"].shape == (1, 10, 32)
    changed = [k for k in plain.state_dict if not torch.equal(plain.state_dict[k], baked.state_dict[k])]
    assert changed == ["embeddings.position_embeddings"]
    assert plain.preprocessor["crop_size"] == {"height": 224, "width": 224}
    assert baked.preprocessor["crop_size"] == {"height": 42, "width": 42}
    assert baked.preprocessor["size"] == {"shortest_edge": 48}
    assert baked.baked == 42
    restored = conversion.restore(baked.state_dict, baked.config)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in baked.source.items())


@pytest.mark.parametrize("image_size", [0, 13, 43, -14])
def test_baking_an_impossible_size_is_refused_with_the_nearest(image_size: int) -> None:
    with pytest.raises(CheckpointError, match="multiple of the patch size 14"):
        conversion.convert(read_golden("dinov2_tiny").backbone, num_attention_heads=NUM_HEADS, image_size=image_size)


def test_another_size_of_images_than_the_baked_one_is_refused() -> None:
    golden = read_golden("dinov2_tiny")
    sizes = {**golden.overrides, "image_size": 42}
    for same in (42, "42"):
        assert conversion.convert(golden.backbone, **sizes, input_size=same).input_size == 42
    with pytest.raises(CheckpointError, match="Images of a model that is baked for 42 pixels have that size, not 70"):
        conversion.convert(golden.backbone, **sizes, input_size=70)


def test_what_a_file_tells_of_images_is_forgotten_where_another_size_is_baked() -> None:
    golden = read_golden("dinov2_tiny")
    state_dict = ToldStateDict(golden.backbone, {"input_size": Told(70, "config.json")})
    plain = conversion.convert(state_dict, **golden.overrides)
    assert (plain.input_size, plain.spec.input_size, plain.told["input_size"].value) == (70, 70, 70)
    for given in ({}, {"input_size": 42}):  # which is not told twice
        baked = conversion.convert(state_dict, **golden.overrides, image_size=42, **given)
        assert (baked.input_size, baked.spec.input_size) == (42, None)
        assert "input_size" not in baked.told


def test_a_size_of_images_is_refused_for_a_family_that_has_no_such_setting() -> None:
    golden = read_golden("dinov2_tiny_dd")
    size = golden.spec.image_size
    for given in ({}, {"image_size": size}):
        with pytest.raises(VariantError, match="input_size"):
            conversion.convert(golden.state_dict, **golden.overrides, input_size=size, **given)


def test_the_dtype_of_the_checkpoint_is_kept() -> None:
    half = {key: tensor.half() for key, tensor in read_golden("dinov2_tiny").backbone.items()}
    out = conversion.convert(half, num_attention_heads=NUM_HEADS)
    assert {tensor.dtype for tensor in out.state_dict.values()} == {torch.float16}
    assert out.config.dtype == torch.float16


def test_mixed_dtypes_are_loaded_in_the_widest() -> None:
    mixed = dict(read_golden("dinov2_tiny").backbone)
    mixed["cls_token"] = mixed["cls_token"].half()
    out = conversion.convert(mixed, num_attention_heads=NUM_HEADS)
    assert out.config.dtype == torch.float32
    assert out.state_dict["embeddings.cls_token"].dtype == torch.float16


@pytest.mark.parametrize("name", DINOV2_VARIANTS)
def test_the_config_says_what_the_original_is(name: str) -> None:
    """Written out here once more, so that a wrong value in the converter has something to be held against."""
    config, size = conversion.convert(meta(name)).config, name.split("_")[1]
    width, depth, heads = {"vits14": (384, 12, 6), "vitb14": (768, 12, 12), "vitl14": (1024, 24, 16),
                           "vitg14": (1536, 40, 24)}[size]  # fmt: skip
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (width, depth, heads)
    assert (config.layer_norm_eps, config.hidden_act, config.mlp_ratio, config.qkv_bias) == (1e-6, "gelu", 4, True)
    assert (config.image_size, config.patch_size, config.use_swiglu_ffn) == (518, 14, size == "vitg14")
    assert getattr(config, "num_register_tokens", 0) == (4 if "_reg" in name else 0)
    assert config.architectures[0].endswith("ForImageClassification" if "_1layer" in name else "Model")


def test_a_patch_size_that_does_not_divide_224_is_cropped_for() -> None:
    spec = replace(read_golden("dinov2_tiny").spec, patch_size=12, image_size=48)
    state_dict = {key: torch.randn(shape) for key, shape in FAMILY.original_shapes(spec).items()}
    out = conversion.convert(state_dict, **read_golden("dinov2_tiny").overrides)
    assert out.preprocessor["crop_size"] == {"height": 216, "width": 216}


def test_keys_that_are_no_names_and_empty_shapes_are_refused() -> None:
    with pytest.raises(KeyMapError, match="1: a Tensor"):
        conversion.convert({1: torch.zeros(1)})  # type: ignore[dict-item]
    empty = read_golden("dinov2_tiny").backbone | {"patch_embed.proj.weight": torch.zeros(32, 3, 0, 0)}
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight: \(32, 3, 0, 0\)"):
        conversion.convert(empty, num_attention_heads=NUM_HEADS)


def test_classifiers_get_the_imagenet_names() -> None:
    config = conversion.convert(meta("dinov2_vits14_1layer")).config
    assert config.num_labels == 1000
    assert config.id2label[0] == "tench, Tinca tinca"
    assert config.id2label[999] == "toilet tissue, toilet paper, bathroom tissue"
    tiny = read_golden("dinov2_tiny_1layer")
    out = conversion.convert(tiny.state_dict, num_attention_heads=NUM_HEADS)
    assert out.config.id2label == {index: f"LABEL_{index}" for index in range(10)}


def test_restoring_a_model_of_another_type_is_refused() -> None:
    from transformers import BertConfig

    with pytest.raises(CheckpointError, match="'bert' is of no known family"):
        conversion.restore({}, BertConfig())
