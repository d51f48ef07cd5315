"""Models with fewer biases, no layer scale, no mask token, other channels or widths: converted, compared, restored."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings

import conversion
from conversion.artifact.checks import check_settings
from conversion.artifact.load import load_converted
from conversion.artifact.settings import list_sizes
from conversion.artifact.verify import verify_artifact
from conversion.errors import ArtifactError, CheckpointError, KeyMapError, VariantError
from conversion.families.base import Spec, families, load_family, tell_settings
from conversion.families.configs import ORIGINAL_LACKS
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR, read_config
from conversion.state_dicts.recognise import recognise_family
from tests.support.strategies import beit_like_specs, dinov2_specs
from tests.support.switched import (
    ALL_OFF,
    CLASSIFIER,
    GATED,
    MODELS,
    PLAIN,
    PRETRAINED,
    WITH_REGISTERS,
    convert,
    draw,
    family_of,
    load,
    tell,
    verify,
    write,
)

EXACT = {Verdict.EXACT}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_converted_compared_saved_loaded_and_restored(name: str, tmp_path: Path) -> None:
    spec = MODELS[name]
    family, source = family_of(spec), draw(spec)
    out = convert(write(spec, tmp_path), spec)
    assert out.spec == spec
    folder = conversion.save_artifact(out, tmp_path / "artifact")
    config = read_config(folder)
    assert family.read_spec(config, spec) == spec
    original = family.load_original(spec, source)
    verdicts = verify(out, load(out, folder), original)
    assert verdicts == dict.fromkeys(verdicts, EXACT)
    assert ("masked" in verdicts) == spec.mask_token
    restored = conversion.restore(out.state_dict, config, dropped=source)
    assert list(restored) == list(source)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in source.items())
    original.load_state_dict(restored, strict=True)
    back = conversion.load_checkpoint(folder)
    assert back.keys() == source.keys()
    again = conversion.convert(back, labels=out.labels or None)
    assert again.spec == spec
    check_settings(again, folder, sizes=list_sizes(family, spec))


@settings(deadline=None, max_examples=100)
@given(dinov2_specs())
def test_every_combination_of_switches_is_recognised(spec: Dinov2Spec) -> None:
    family, shapes = family_of(spec), family_of(spec).converted_shapes(spec)
    assert [each.name for each in families() if each.matches(shapes)] == ["dinov2"]
    told = {name: value for name, value in tell_settings(family, spec).items() if name != "input_size"}
    assert family.recognise_spec(shapes, **told) == spec


@settings(deadline=None, max_examples=100)
@given(beit_like_specs(Data2VecVisionSpec))
def test_every_combination_of_switches_of_beit_is_of_one_family(spec: Data2VecVisionSpec) -> None:
    shapes = family_of(spec).converted_shapes(spec)
    has_sign = spec.qkv_bias or spec.layer_scale or spec.shared_position_bias or spec.block_position_bias
    assert [each.name for each in families() if each.matches(shapes)] == ["data2vec_vision", "beit"] * has_sign
    assert not has_sign or recognise_family(shapes).name == "data2vec_vision"


def test_what_is_filled_in_is_named_in_the_notes_and_in_the_config(tmp_path: Path) -> None:
    spec = replace(WITH_REGISTERS, proj_bias=False, layer_scale=False, mask_token=False)
    out = convert(write(replace(spec, mask_token=True), tmp_path), replace(spec, mask_token=True))
    assert out.config.original_lacks == ["proj_bias", "layer_scale"]
    assert len(out.filled_in) == 2 * 3
    said = "\n".join(out.notes)
    assert "not in the checkpoint, and always in transformers' model: blocks.*.attn.proj.bias. Zeros stand for" in said
    assert "always in transformers' model: blocks.*.ls1.gamma, blocks.*.ls2.gamma. Ones stand for them" in said
    without = {key: tensor for key, tensor in draw(replace(spec, mask_token=True)).items() if key != "mask_token"}
    out = conversion.convert(without, **tell(spec))
    assert out.config.original_lacks == ["mask_token", "proj_bias", "layer_scale"]
    assert not out.state_dict["embeddings.mask_token"].any()
    assert "model: mask_token, blocks.*.attn.proj.bias. Zeros stand" in "\n".join(out.notes)
    assert "cannot be masked" in "\n".join(out.notes)
    folder = conversion.save_artifact(out, tmp_path / "artifact")
    card = json.loads((folder / "parity.json").read_text())
    assert any("model: mask_token, blocks.*.attn.proj.bias" in note for note in card["notes"])
    assert card["spec"]["mask_token"] is False


def test_what_was_filled_in_and_trained_since_is_not_lost() -> None:
    out = conversion.convert(draw(replace(PLAIN, proj_bias=False)), **tell(PLAIN))
    name = "encoder.layer.1.attention.output.dense.bias"
    trained = {**out.state_dict, name: torch.ones(128)}
    with pytest.raises(
        KeyMapError, match=rf"(?s)filled in have changed since.*{name}: not all 0.*take 'original_lacks' out of"
    ):
        conversion.restore(trained, out.config)
    del out.config.original_lacks
    restored = conversion.restore(trained, out.config)
    assert restored["blocks.1.attn.proj.bias"].all()
    assert not restored["blocks.0.attn.proj.bias"].any()


@pytest.mark.parametrize(("spec", "name", "value"), [
    (replace(PLAIN, proj_bias=False), "encoder.layer.0.attention.output.dense.bias", 0.01),
    (replace(GATED, ffn_bias=False), "encoder.layer.1.mlp.weights_in.bias", 0.01),
    (replace(PLAIN, layer_scale=False), "encoder.layer.0.layer_scale2.lambda1", 0.99),
    (replace(PRETRAINED, qkv_bias=False), "encoder.layer.0.attention.attention.query.bias", 0.1),
])  # fmt: skip
def test_something_else_in_its_place_is_noticed(spec: Spec, name: str, value: float) -> None:
    family, source = family_of(spec), draw(spec)
    out = conversion.convert(source, **tell(spec))
    wrong = replace(out, state_dict={**out.state_dict, name: torch.full_like(out.state_dict[name], value)})
    verdicts = verify(
        out, load_converted(wrong, attention=family.choose_attention()), family.load_original(spec, source)
    )
    assert all(Verdict.FAILED in found for found in verdicts.values())


@pytest.mark.parametrize(("spec", "change", "said"), [
    (PLAIN, {"qkv_bias": False}, "unexpected keys: encoder.layer.0.attention"),
    (replace(PLAIN, qkv_bias=False), {"qkv_bias": True}, "missing keys: encoder.layer.0.attention"),
    (PLAIN, {"use_mask_token": False}, "unexpected keys: embeddings.mask_token"),
    (PLAIN, {"mlp_ratio": 2}, "mlp.fc1.weight"),
    (PLAIN, {"num_channels": 1}, "projection.weight"),
    (PRETRAINED, {"layer_scale_init_value": 0.0}, "unexpected keys: encoder.layer.0.lambda_1"),
])  # fmt: skip
def test_a_wrong_switch_in_the_config_is_noticed(spec: Spec, change: dict[str, Any], said: str) -> None:
    out = conversion.convert(draw(spec), **tell(spec))
    for field, value in change.items():
        setattr(out.config, field, value)
    with pytest.raises(ArtifactError) as raised:
        load_converted(out)
    assert any(said in problem for problem in raised.value.problems)


def test_the_originals_own_switches_are_compared_with_the_config(tmp_path: Path) -> None:
    spec = replace(PLAIN, **ALL_OFF)
    out = conversion.convert(draw(spec), **tell(spec))
    folder = conversion.save_artifact(out, tmp_path / "artifact")
    config = json.loads((folder / CONFIG).read_text())
    assert config[ORIGINAL_LACKS] == ["proj_bias", "ffn_bias", "layer_scale"]
    (folder / CONFIG).write_text(json.dumps(config | {ORIGINAL_LACKS: ["proj_bias"]}))
    with pytest.raises(ArtifactError, match=r"original_lacks: \['proj_bias'\], expected \['proj_bias', 'ffn_bias'"):
        check_settings(out, folder)
    del config[ORIGINAL_LACKS]  # as another's conversion: no output depends on it
    (folder / CONFIG).write_text(json.dumps(config))
    check_settings(out, folder)
    whole = conversion.load_checkpoint(folder)
    assert not whole["blocks.0.mlp.fc1.bias"].any()
    (folder / CONFIG).write_text(json.dumps(config | {ORIGINAL_LACKS: ["proj_bias"]}))
    with pytest.raises(ArtifactError, match=r"original_lacks: \['proj_bias'\], expected \[\]"):
        check_settings(conversion.convert(draw(replace(PLAIN, qkv_bias=False)), **tell(PLAIN)), folder)


# transformers' own folders


@pytest.mark.parametrize(("model_class", "switches"), [
    ("Dinov2Model", {"use_mask_token": False}),
    ("Dinov2Model", {"qkv_bias": False}),
    ("Dinov2Model", {"mlp_ratio": 2}),
    ("Dinov2Model", {"mlp_ratio": 3, "use_swiglu_ffn": True, "num_channels": 4}),
    ("Dinov2WithRegistersModel", {"qkv_bias": False, "num_channels": 1}),
    ("Dinov2ForImageClassification", {"qkv_bias": False, "use_mask_token": False, "num_labels": 5}),
    ("Data2VecVisionModel", {"layer_scale_init_value": 0.0, "use_mean_pooling": False, "num_channels": 5}),
    ("Data2VecVisionForImageClassification", {"use_mean_pooling": False, "use_absolute_position_embeddings": True}),
])  # fmt: skip
def test_a_folder_of_transformers_is_read_by_its_config(
    model_class: str, switches: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    is_beit = model_class.startswith("Data2Vec")
    name = next(name for name in ("Data2VecVision", "Dinov2WithRegisters", "Dinov2") if model_class.startswith(name))
    size = {"intermediate_size": 512, "image_size": 64, "patch_size": 16} if is_beit else {"image_size": 70}
    size |= {"patch_size": 14} if not is_beit else {"use_relative_position_bias": True, "layer_norm_eps": 1e-6}
    config = getattr(transformers, f"{name}Config")(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, **size, **switches
    )
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config).eval()
    for tensor in model.parameters():
        tensor.data += 0.1 * torch.randn_like(tensor)
    model.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder" / PREPROCESSOR).unlink(missing_ok=True)
    read = conversion.load_checkpoint(tmp_path / "folder")
    given = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3} if is_beit and "num_channels" not in switches else {}
    labels = list(config.id2label.values()) if "For" in model_class else None
    out = conversion.convert(read, labels=labels, **given)
    for field in switches.keys() - {"num_labels"}:
        assert getattr(out.config, field) == switches[field]
    assert out.filled_in == ()
    check_settings(out, tmp_path / "folder", sizes=list_sizes(load_family(out.family), out.spec))
    original = load_family(out.family).load_original(out.spec, out.source)
    verdicts = verify(out, load(out, tmp_path / "folder"), original)
    assert verdicts == dict.fromkeys(verdicts, EXACT)


# channels


def test_a_model_of_four_channels_gets_no_image_processor(tmp_path: Path) -> None:
    spec = replace(PLAIN, num_channels=4)
    out = convert(write(spec, tmp_path), spec)
    assert out.preprocessor == {}
    assert "its images have 4 channels: no preprocessor_config.json is written" in "\n".join(out.notes)
    assert not any(name.startswith("image") or name == "crop_pct" for name in out.told)
    folder = conversion.save_artifact(out, tmp_path / "artifact")
    assert not (folder / PREPROCESSOR).exists()
    assert "AutoImageProcessor" not in (folder / "README.md").read_text()
    assert "center-crop" not in (folder / "README.md").read_text()
    with pytest.raises(ArtifactError) as raised:
        verify_artifact(folder)
    assert raised.value.problems == ("activations were not compared; vision-parity convert compares them",)
    with pytest.raises(VariantError, match=r"image_mean, crop_pct: this dinov2 model gets no image processor"):
        convert(tmp_path / "checkpoint.pth", spec, image_mean=(0.5, 0.5, 0.5), crop_pct=0.9)


def test_an_image_processor_that_came_with_other_channels_is_left_to_its_author(tmp_path: Path) -> None:
    spec = replace(PLAIN, num_channels=1)
    out = convert(write(spec, tmp_path), spec)
    folder = conversion.save_artifact(out, tmp_path / "artifact")
    (folder / PREPROCESSOR).write_text(json.dumps({"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]}))
    assert conversion.convert(conversion.load_checkpoint(folder)).spec == spec


# what transformers' config cannot say


@pytest.mark.parametrize(("spec", "edit", "said"), [
    (PLAIN, ("fc", 320), r"feed-forward is 320 wide, 2\.5 times the 128 of the tokens: transformers 5"),
    (GATED, ("w", 300), r"feed-forward is gated and 300 wide, which a ratio of 3\.516 gives; 4 is 344: transformers 5"),
    (PLAIN, ("", 0), r"has no feed-forward; .*missing in every block.*ffn_layer: identity"),
])  # fmt: skip
def test_what_no_config_says_is_refused_by_name(spec: Any, edit: tuple[str, int], said: str) -> None:
    kind, width = edit
    tensors = draw(spec)
    mlp = [key for key in tensors if ".mlp." in key]
    for key in mlp:
        shape = {
            "fc1.weight": (width, 128), "fc1.bias": (width,), "fc2.weight": (128, width), "fc2.bias": (128,),
            "w12.weight": (2 * width, 128), "w12.bias": (2 * width,), "w3.weight": (128, width), "w3.bias": (128,),
        }[key.partition(".mlp.")[2]]  # fmt: skip
        tensors.pop(key)
        if kind:
            tensors[key] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=f"(?s){said}.*with the code that trained it"):
        conversion.convert(tensors, **tell(spec))


def test_what_only_some_blocks_lack_is_missing_and_not_switched_off() -> None:
    for key in ("blocks.1.attn.proj.bias", "blocks.0.attn.qkv.bias", "blocks.1.ls2.gamma", "blocks.0.mlp.fc1.bias"):
        tensors = draw(PLAIN)
        del tensors[key]
        with pytest.raises(KeyMapError, match=f"missing: {key}"):
            conversion.convert(tensors, **tell(PLAIN))
    for key in ("blocks.0.attn.q_bias", "blocks.1.gamma_1"):
        tensors = draw(CLASSIFIER)
        del tensors[key]
        with pytest.raises(KeyMapError, match=f"missing: {key}"):
            conversion.convert(tensors, **tell(CLASSIFIER))


def test_a_misshapen_tensor_does_not_make_another_ratio() -> None:
    tensors = draw(PLAIN)
    tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].T.contiguous()
    with pytest.raises(KeyMapError, match=r"fc1\.weight is \(128, 512\), expected \(512, 128\) \(transposed\?\)"):
        conversion.convert(tensors, **tell(PLAIN))
    tensors = draw(PLAIN)
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"].transpose(0, 1).contiguous()
    with pytest.raises(KeyMapError, match=r"proj\.weight is \(3, 128, 14, 14\), expected \(128, 3, 14, 14\)"):
        conversion.convert(tensors, **tell(PLAIN))


def test_a_plain_vision_transformer_is_not_taken_for_a_dinov2_without_layer_scale() -> None:
    tensors = draw(replace(PLAIN, layer_scale=False, mask_token=False))
    with pytest.raises(CheckpointError, match="no known family"):
        conversion.convert(tensors, **tell(PLAIN))
