"""Against what the original code and the official converters gave, recorded in ``fixtures/golden``."""

import hashlib
from functools import partial

import pytest
import torch
from torch import Tensor

import conversion
from conversion.family import load_family
from conversion.loading import load_converted
from conversion.parity.compare import capture_hf, cast_parameters
from conversion.parity.metrics import is_bit_equal
from tests.golden import DINOV2, NUM_HEADS, GoldenModel, read_golden, read_json

RECORDED = 1e-12
"""Two float64 runs of one model: a few hundred roundings of 1e-16 on values of order one leave this far behind."""


@pytest.fixture(params=DINOV2)
def golden(request: pytest.FixtureRequest) -> GoldenModel:
    return read_golden(request.param)


def convert_golden(golden: GoldenModel, **overrides: int) -> conversion.Conversion:
    head = golden.linear_head or None
    return conversion.convert(golden.backbone, linear_head=head, num_attention_heads=NUM_HEADS, **overrides)


def keep(kept: dict[str, Tensor], name: str, _block: object, _args: object, output: Tensor) -> None:
    kept[name] = output


def test_golden_files_are_all_there() -> None:
    assert len(DINOV2) == 6
    assert all(case.outputs for name in DINOV2 for case in read_golden(name).cases)


def test_original_reproduces_every_recorded_output(golden: GoldenModel) -> None:
    model = load_family("dinov2").load_original(golden.spec, golden.state_dict)
    compared = []
    for case in golden.cases:
        inputs = case.inputs.to("cpu", torch.float64)
        actual: dict[str, Tensor] = {}
        for index, block in enumerate(model.blocks):
            block.register_forward_hook(partial(keep, actual, f"block.{index}"))
        with torch.inference_mode(), cast_parameters(model, torch.float64):
            actual["embeddings"] = model.prepare_tokens(inputs.pixel_values, inputs.bool_masked_pos)
            actual |= model(inputs.pixel_values, inputs.bool_masked_pos)
        for name, expected in case.outputs.items():
            assert actual[name].shape == expected.shape
            assert (actual[name] - expected).abs().max() <= RECORDED, f"{case.name}.{name}"
            compared.append(name)
    assert {"embeddings", "block.0", "x_norm_clstoken", "x_norm_patchtokens"} <= set(compared)
    assert ("logits" in compared) == bool(golden.linear_head)
    assert ("x_norm_regtokens" in compared) == bool(golden.spec.num_register_tokens)


def test_intermediate_layers_are_the_normed_block_outputs(golden: GoldenModel) -> None:
    case = golden.cases[0]
    model = load_family("dinov2").load_original(golden.spec, {k: v.double() for k, v in golden.state_dict.items()})
    first = 1 + golden.spec.num_register_tokens
    with torch.inference_mode():
        actual = model.get_intermediate_layers(case.inputs.pixel_values.double(), layers=2)
        chosen = model.get_intermediate_layers(case.inputs.pixel_values.double(), layers=[0])
        expected = [model.norm(case.outputs[f"block.{i}"])[:, first:] for i in range(golden.spec.depth)]
    assert len(actual) == 2
    assert len(chosen) == 1
    for left, right in zip([*actual, *chosen], [*expected[-2:], expected[0]], strict=True):
        assert (left - right).abs().max() <= RECORDED


def test_convert_gives_the_keys_and_bytes_of_the_official_converters(golden: GoldenModel) -> None:
    expected = read_json("converted_sha256.json")[golden.name]
    actual = {
        key: {"sha256": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest(), "shape": list(tensor.shape)}
        for key, tensor in convert_golden(golden).state_dict.items()
    }
    assert actual == expected


def test_restore_gives_the_weights_back_bit_for_bit(golden: GoldenModel) -> None:
    out = convert_golden(golden)
    restored = conversion.restore(out.state_dict, out.config)
    assert restored.keys() == golden.state_dict.keys()
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in golden.state_dict.items())


def test_spec_is_recognised(golden: GoldenModel) -> None:
    out = convert_golden(golden)
    assert out.spec == golden.spec
    assert load_family("dinov2").read_config(out.config) == golden.spec


def test_converted_model_computes_the_recorded_outputs(golden: GoldenModel) -> None:
    """The whole way, with no code of ours in the reference: converted weights in transformers, float64, sdpa."""
    converted = load_converted(convert_golden(golden), attention="sdpa", dtype="float64")
    points = load_family("dinov2").capture_points(golden.spec)
    native = [case for case in golden.cases if case.inputs.pixel_values.shape[-2:] == (golden.spec.image_size,) * 2]
    cases = golden.cases if golden.spec.num_register_tokens else native
    assert cases
    for case in cases:
        masked = case.inputs.bool_masked_pos is not None
        points = load_family("dinov2").capture_points(golden.spec, masked=masked)
        actual = capture_hf(converted, points, case.inputs)
        first = 1 + golden.spec.num_register_tokens
        actual |= {"x_norm_clstoken": actual["norm"][:, 0], "x_norm_regtokens": actual["norm"][:, 1:first]}
        actual |= {"x_norm_patchtokens": actual["norm"][:, first:]}
        for name, expected in case.outputs.items():
            assert (actual[name] - expected).abs().max() <= RECORDED, f"{case.name}.{name}"
