"""A failure says where it arose, what feeds that place, and which known fault explains it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import conversion
from conversion import Conversion
from conversion.artifact.load import load_converted
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import arose_here, describe_failure, find_explanation
from conversion.parity.faults import TENSOR_FAULTS, exchange_halves, list_orders, roll_rows, transpose, zero
from conversion.parity.points import Inputs
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.inputs import InputCase
from tests.mutation.failures import FAILURES
from tests.support.edits import Fault, change, exchange_projections, intact, set_config, take_from
from tests.support.golden import NUM_HEADS, read_golden
from tests.support.runs import run_original, verify_input

LAYER = "encoder.layer.1."
HF_ATTENTION, OTHER_ATTENTION = f"{LAYER}attention.attention", "encoder.layer.2.attention.attention"


def rotate_projections(out: Conversion) -> Conversion:
    """What was the key is the query, what was the value the key, what was the query the value."""
    return exchange_projections(1, "key", "value", exchange_projections(1, "query", "key", out))


# model, fault, first capture point, explanation
EXPLAINED: list[tuple[str, Fault, str, str]] = [
    ("dinov2_tiny", partial(exchange_projections, 1, "query", "key"), "block.1.q",
     "q and k exchanged in blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias"),
    ("dinov2_tiny_reg", partial(exchange_projections, 1, "key", "value"), "block.1.k",
     "k and v exchanged in blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias"),
    ("data2vec_vision_tiny", partial(exchange_projections, 1, "query", "key"), "block.1.q",
     "q and k exchanged in blocks.1.attn.qkv.weight"),
    ("dinov2_tiny", rotate_projections, "block.1.q",
     "k, v, q taken for q, k, v in blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias"),
    ("dinov2_tiny", partial(change, f"{HF_ATTENTION}.key.bias", zero), "block.1.k",
     "k of blocks.1.attn.qkv.bias zeroed"),
    ("dinov2_tiny", partial(change, f"{HF_ATTENTION}.value.weight", transpose), "block.1.v",
     "v of blocks.1.attn.qkv.weight transposed"),
    ("dinov2_tiny", partial(take_from, f"{HF_ATTENTION}.query.weight", f"{OTHER_ATTENTION}.query.weight"), "block.1.q",
     "q of blocks.1.attn.qkv.weight is that of blocks.2.attn.qkv.weight"),
    ("dinov2_tiny_swiglu", partial(change, f"{LAYER}mlp.weights_in.weight", exchange_halves), "block.1.gate",
     "gate and up exchanged in blocks.1.mlp.w12.weight"),
    ("dinov2_tiny", partial(change, f"{LAYER}attention.output.dense.weight", transpose), "block.1.attention",
     "blocks.1.attn.proj.weight transposed"),
    ("dinov2_tiny", partial(take_from, f"{LAYER}mlp.fc1.weight", "encoder.layer.2.mlp.fc1.weight"), "block.1.mlp",
     "blocks.1.mlp.fc1.weight is that of blocks.2.mlp.fc1.weight"),
    ("dinov2_tiny", partial(change, f"{LAYER}mlp.fc2.bias", zero), "block.1.mlp", "blocks.1.mlp.fc2.bias zeroed"),
    ("dinov2_tiny", intact, "", ""),
    ("dinov2_tiny", partial(set_config, "num_attention_heads", 2 * NUM_HEADS), "block.0.attention",
     "4 attention heads, original 2"),
    ("dinov2_tiny_1layer", partial(set_config, "layer_norm_eps", 1e-5), "block.0.norm1",
     "layer norm eps 1e-05, original 1e-06"),
    ("data2vec_vision_tiny", partial(set_config, "layer_norm_eps", 1e-12), "block.0.norm1",
     "layer norm eps 1e-12, original 1e-06"),
    ("dinov2_tiny_reg", partial(change, "embeddings.position_embeddings", roll_rows), "embeddings",
     "pos_embed rows rolled"),
    ("data2vec_vision_tiny_ft1k", partial(change, "classifier.bias", zero), "logits", "head.bias zeroed"),
]  # fmt: skip


def verify(model: str, fault: Fault, attention: str) -> InputVerdict:
    golden = read_golden(model)
    source = draw_state_dict(golden.family, golden.spec, model, 0)
    case = InputCase("native", golden.spec.image_size, golden.spec.image_size)
    run = run_original(golden.family, golden.spec, golden.family.load_original(golden.spec, source), case)
    out = fault(conversion.convert(source, **golden.overrides))
    return verify_input(case.name, run, load_converted(out, attention=attention))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("model", "fault", "point", "explanation"), EXPLAINED)
def test_a_known_fault_is_named(model: str, fault: Fault, point: str, explanation: str, attention: str) -> None:
    result = verify(model, fault, attention)
    if not point:
        assert result.evidence is None
        return
    assert result.evidence is not None
    assert result.evidence.point.name == point
    assert arose_here(result.evidence)
    assert find_explanation(result.evidence) == explanation
    message = describe_failure(model, f"cpu, float32, {attention}", [result])
    assert f"first at {point}" in message
    assert f"explained  by {explanation}" in message
    assert "arose      here" in message


def test_a_fault_that_is_not_known_is_not_explained() -> None:
    noise = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    fault = partial(change, f"{LAYER}attention.output.dense.weight", lambda tensor: tensor + noise)
    result = verify("dinov2_tiny", fault, "eager")
    assert "explained  by none of the known faults" in describe_failure("tiny", "cpu", [result])


def test_two_faults_are_not_explained_by_one_of_them() -> None:
    def fault(out: Conversion) -> Conversion:
        return change(f"{LAYER}mlp.fc2.bias", zero, exchange_projections(1, "query", "key", out))

    result = verify("dinov2_tiny", fault, "eager")
    assert result.evidence is not None
    assert find_explanation(result.evidence) is None


def test_a_stage_that_is_fed_something_else_is_not_blamed() -> None:
    """A feature of another block: the pyramid itself is right."""
    result = verify("data2vec_vision_tiny_ade20k", partial(set_config, "out_indices", [1, 2, 3, 4]), "eager")
    message = describe_failure("tiny", "cpu", [result])
    assert "first at feature.0" in message
    assert "arose      before: by itself, fed what the original has there, this stage agrees" in message
    assert "explained" not in message


def test_a_photo_that_is_processed_otherwise_is_told_from_weights() -> None:
    golden = read_golden("dinov2_tiny")
    source = draw_state_dict(golden.family, golden.spec, golden.name, 0)
    original = golden.family.load_original(golden.spec, source)
    run = run_original(golden.family, golden.spec, original, InputCase("native", 70, 70))
    converted = load_converted(conversion.convert(source, **golden.overrides))
    brighter = Inputs(run.inputs.pixel_values + 0.1)
    (results,) = verify_together([InputPlan("photo", run, [Candidate(converted, inputs=brighter)])])
    message = describe_failure("tiny", "cpu", results)
    assert "first at pixels" in message
    assert "fed by     the input alone" in message


def test_the_message_fits_a_terminal_however_many_inputs_fail() -> None:
    result = verify("dinov2_tiny", partial(change, f"{LAYER}mlp.fc2.bias", zero), "eager")
    results = [replace(result, name=f"input_{index}") for index in range(8)]
    lines = describe_failure("dinov2_tiny", "cpu, float32, eager", results).splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 120
    assert sum("explained" in line for line in lines) == 1
    assert lines[-1] == "  input_7: failed at 14 of 32 capture points, first at block.1.mlp"


def test_every_order_of_parts_is_wrong_and_another() -> None:
    assert len(set(list_orders(3))) == 5
    assert (0, 1, 2) not in list_orders(3)


def test_a_fault_changes_its_tensor_and_leaves_what_it_was_given() -> None:
    tensor = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    before = tensor.clone()
    faulty: Mapping[str, Tensor | None] = {kind: fault(tensor) for kind, fault in TENSOR_FAULTS.items()}
    assert torch.equal(tensor, before)
    assert all(other is not None and not torch.equal(other, tensor) for other in faulty.values())
    values = [other.flatten().tolist() for other in faulty.values() if other is not None]
    assert all(left != right for left, right in pairwise(sorted(values)))
    counter = torch.tensor(3)
    assert [kind for kind, fault in TENSOR_FAULTS.items() if fault(counter) is None] == [
        "transposed",
        "rows rolled",
        "halves exchanged",
    ]
    assert TENSOR_FAULTS["sign flipped"](torch.zeros(3)) is None


def test_the_documented_failures_are_of_official_variants() -> None:
    assert [variant for variant, _ in FAILURES.values()] == ["dinov2_vitb14", "dinov2_vitb14", "data2vec_vision_base"]
