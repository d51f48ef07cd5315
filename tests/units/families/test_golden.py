"""Against what the original code and the official converters gave, recorded in ``fixtures/golden``."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import conversion
from conversion.artifact.load import load_converted
from conversion.mapping import key_map
from conversion.parity.capture import capture
from conversion.parity.deviations import Deviation, split_names
from conversion.parity.metrics import is_bit_equal
from conversion.parity.points import Inputs
from conversion.parity.precision import cast_parameters
from conversion.state_dicts.filled import fill_in
from tests.support.golden import (
    BEIT,
    DATA2VEC_VISION,
    DEPTH,
    DINOV2,
    DINOV3,
    NAMES,
    GoldenModel,
    read_golden,
    read_json,
)

RECORDED = 1e-12
"""Two float64 runs of one model: a few hundred roundings of 1e-16 on values of order one leave this far behind."""

# what each golden model must have been compared at, whatever else
DEMANDED = {
    "dinov2": {"embeddings", "block.0", "x_norm_clstoken", "x_norm_patchtokens"},
    "dinov2_tiny_1layer": {"logits"},
    "dinov2_tiny_reg": {"x_norm_regtokens"},
    "dinov3": {"embeddings", "block.0", "block.2", "x_norm_clstoken", "x_storage_tokens", "masked.x_norm_patchtokens"},
    "data2vec_vision": set(),
    "beit": {"embeddings", "block.0", "block.2", "last_hidden_state", "logits"},
    "depth_anything": {"feature.0", "feature.3", "predicted_depth", "embeddings"},
    "dinov2_depth": {"feature.0", "feature.3", "head_depth", "predicted_depth"},
    "beit_tiny_pt": {"masked.last_hidden_state", "masked.logits"},
    "beit_tiny_ft": {"pooled"},
    "beitv2_tiny_ft": {"pooled"},
    "data2vec_vision_tiny": {"block.0", "block.2", "last_hidden_state", "masked.last_hidden_state"},
    "data2vec_vision_tiny_ft1k": {"block.0", "block.2", "pooled", "logits"},
    "data2vec_vision_tiny_ade20k": {"feature.0", "feature.1", "feature.2", "feature.3", "logits", "auxiliary_logits"},
}


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> GoldenModel:
    return read_golden(request.param)


def convert_golden(golden: GoldenModel) -> conversion.Conversion:
    return conversion.convert(golden.backbone, linear_head=golden.linear_head or None, **golden.overrides)


def keep(kept: dict[str, Tensor], name: str, _block: object, _args: object, output: Tensor) -> None:
    kept[name] = output


def run_original(golden: GoldenModel, inputs: Inputs) -> dict[str, Tensor]:
    """Every output of the bundled original in float64, those of its blocks among them."""
    model = golden.family.load_original(golden.spec, golden.state_dict)
    backbone = next((getattr(model, name) for name in ("backbone", "pretrained") if hasattr(model, name)), model)
    outputs: dict[str, Tensor] = {}
    for index, block in enumerate(backbone.blocks):
        block.register_forward_hook(partial(keep, outputs, f"block.{index}"))
    inputs = inputs.to("cpu", torch.float64)
    with torch.inference_mode(), cast_parameters(model, torch.float64):
        if golden.family.name == "beit":
            model.norm.register_forward_hook(partial(keep, outputs, "last_hidden_state"))
        if golden.family.name in ("dinov2", "dinov3", "beit", "depth_anything"):
            outputs["embeddings"] = backbone.prepare_tokens(inputs.pixel_values, inputs.bool_masked_pos)
        return outputs | model(**inputs.arguments)


def test_golden_files_are_all_there() -> None:
    assert len(DINOV2) == 6
    assert len(DATA2VEC_VISION) == 3
    assert len(DINOV3) == 2
    assert len(BEIT) == 3
    assert len(DEPTH) == 3
    assert all(case.outputs for name in NAMES for case in read_golden(name).cases)
    assert {case.name for case in read_golden("data2vec_vision_tiny").cases} == {"80x80", "80x80.masked"}


def test_original_reproduces_every_recorded_output(golden: GoldenModel) -> None:
    compared = set()
    for case in golden.cases:
        actual = run_original(golden, case.inputs)
        for name, expected in case.outputs.items():
            assert actual[name].shape == expected.shape
            assert (actual[name] - expected).abs().max() <= RECORDED, f"{case.name}.{name}"
            compared |= {name, f"masked.{name}" if case.inputs.bool_masked_pos is not None else name}
    assert DEMANDED[golden.family.name] | DEMANDED.get(golden.name, set()) <= compared


@pytest.mark.parametrize("name", DINOV2)
@pytest.mark.parametrize(("dtype", "least", "most"), [(torch.float64, 0, RECORDED), (torch.float32, 1e-9, 1e-5)])
def test_attention_with_its_softmax_apart_is_as_exact_as_that(
    name: str, dtype: torch.dtype, least: float, most: float
) -> None:
    golden = read_golden(name)
    case = golden.cases[0]
    model = golden.family.load_original(golden.spec, {k: v.double() for k, v in golden.state_dict.items()})
    assert model.softmax_dtype is None
    model.softmax_dtype = dtype
    assert model.softmax_dtype is dtype
    inputs = case.inputs.to("cpu", torch.float64)
    with torch.inference_mode():
        actual = model(inputs.pixel_values, inputs.bool_masked_pos)["x_norm_patchtokens"]
    assert actual.dtype is torch.float64
    assert least <= float((actual - case.outputs["x_norm_patchtokens"]).abs().max()) <= most


@pytest.mark.parametrize("name", DINOV2)
def test_intermediate_layers_are_the_normed_block_outputs(name: str) -> None:
    golden = read_golden(name)
    case = next(case for case in golden.cases if case.inputs.pixel_values.shape[-1] == golden.spec.image_size)
    model = golden.family.load_original(golden.spec, {k: v.double() for k, v in golden.state_dict.items()})
    first = 1 + golden.config["registers"]
    with torch.inference_mode():
        actual = model.get_intermediate_layers(case.inputs.pixel_values.double(), layers=2)
        chosen = model.get_intermediate_layers(case.inputs.pixel_values.double(), layers=[0])
        expected = [model.norm(case.outputs[f"block.{i}"])[:, first:] for i in range(golden.spec.depth)]
    assert len(actual) == 2
    assert len(chosen) == 1
    for left, right in zip([*actual, *chosen], [*expected[-2:], expected[0]], strict=True):
        assert (left - right).abs().max() <= RECORDED


def test_convert_gives_the_keys_and_bytes_of_the_official_converters(golden: GoldenModel) -> None:
    """Under the names of transformers 4, which they ran on."""
    out = convert_golden(golden)
    converted = key_map.convert(out.source, golden.family.expand_key_map(out.spec, 4))
    converted |= fill_in(golden.family, out.spec, out.source, 4)
    actual = {
        key: {"sha256": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest(), "shape": list(tensor.shape)}
        for key, tensor in converted.items()
    }
    assert actual == read_json("converted_sha256.json")[golden.name]
    # under the installed major's names, the same tensors
    pointers = [tensor.data_ptr() for tensor in converted.values()]
    count = len(pointers) - len(out.filled_in)  # zeros are made anew, and come last
    assert [tensor.data_ptr() for tensor in out.state_dict.values()][:count] == pointers[:count]


def test_restore_gives_the_weights_back_bit_for_bit(golden: GoldenModel) -> None:
    out = convert_golden(golden)
    restored = conversion.restore(out.state_dict, out.config, dropped=golden.recorded)
    assert restored.keys() == golden.state_dict.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in golden.state_dict.items())


def test_spec_is_recognised(golden: GoldenModel) -> None:
    out = convert_golden(golden)
    assert out.spec == golden.spec
    assert golden.family.read_spec(out.config, golden.spec) == golden.spec


def name_as_recorded(golden: GoldenModel, actual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Captures of a converted model under the names that the original's outputs were recorded by."""
    named = dict(actual)
    if golden.name in DEPTH:
        depth = actual["returned.predicted_depth"]
        is_whole = golden.family.name == "depth_anything"
        return {"predicted_depth": depth} if is_whole else {"head_depth": depth + golden.config["min_depth"]}
    if golden.family.name in ("dinov2", "dinov3"):
        is_later = golden.family.name == "dinov3"
        first = 1 + golden.config["n_storage_tokens" if is_later else "registers"]
        between = "x_storage_tokens" if is_later else "x_norm_regtokens"
        named |= {"x_norm_clstoken": actual["norm"][:, 0], between: actual["norm"][:, 1:first]}
        named |= {"x_norm_patchtokens": actual["norm"][:, first:]}
    elif golden.family.name == "beit" or "norm" in actual:  # with mean pooling there is no final norm
        named |= {"last_hidden_state": actual.get("norm", actual[f"block.{golden.spec.depth - 1}"])}
    return named


def is_told_apart(deviation: Deviation | None) -> bool:
    """Whether nothing of what transformers does otherwise is left: rounding, and an offset that is added again."""
    return set(split_names(deviation.name if deviation else "")) <= {"feature-memory-layout", "min-depth-offset"}


def pad(inputs: Inputs, patch_size: int) -> Inputs:
    """Put zeros around images, the smaller half above and to the left, until their sides are whole patches."""
    missing = [-side % patch_size for side in reversed(inputs.pixel_values.shape[2:])]
    parts = [part for each in missing for part in (each // 2, each - each // 2)]
    return replace(inputs, pixel_values=functional.pad(inputs.pixel_values, parts))


def test_converted_model_computes_the_recorded_outputs(golden: GoldenModel) -> None:
    """The whole way, with no code of ours in the reference: converted weights in transformers, float64, sdpa."""
    converted = load_converted(convert_golden(golden), attention="sdpa", dtype="float64")
    spec = golden.spec
    if golden.family.name == "dinov3":
        converted.double()  # its frequencies, too, which were recorded so
    shapes = {case.name: tuple(case.inputs.pixel_values.shape) for case in golden.cases}
    deviations = {name: golden.family.find_deviation(spec, shape) for name, shape in shapes.items()}
    recorded = {
        case.name: case.outputs if is_told_apart(deviations[case.name]) else case.counterfactual
        for case in golden.cases
    }
    cases = [case for case in golden.cases if recorded[case.name]]
    assert (golden.config["image_size"],) * 2 in [shapes[case.name][-2:] for case in cases]
    for case in cases:
        stages = golden.family.list_stages(spec, masked=case.inputs.bool_masked_pos is not None)
        actual = name_as_recorded(golden, capture(converted, stages, "hf", pad(case.inputs, spec.patch_size)))
        assert {"logits", "last_hidden_state", "predicted_depth", "head_depth", "x_norm_clstoken"} & actual.keys()
        for name in recorded[case.name].keys() & actual.keys() if golden.name in DEPTH else recorded[case.name]:
            assert (actual[name] - recorded[case.name][name]).abs().max() <= RECORDED, f"{case.name}.{name}"
