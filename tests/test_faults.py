"""Deliberate faults in a conversion: each must be noticed, by the tensors' bytes, by the activations, or by both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conversion import Conversion, ConversionError
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from conversion.synthetic import draw_state_dict
from conversion.target import transformers_major
from tests.golden import NUM_HEADS, read_golden
from tests.inputs import InputCase
from tests.subject import Request, Subject

Fault = Callable[[Conversion], Conversion]
BLOCK = "encoder.layer.1."


def edit(out: Conversion, change: Callable[[dict[str, Tensor]], object]) -> Conversion:
    """The conversion with some tensors changed; the source stays what it was."""
    tensors = dict(out.state_dict)
    change(tensors)
    return replace(out, state_dict=tensors)


def find(out: Conversion, ending: str) -> str:
    return next(key for key in out.state_dict if key.endswith(ending))


def swap(out: Conversion, *endings: tuple[str, str]) -> Conversion:
    def change(tensors: dict[str, Tensor]) -> None:
        for pair in endings:
            left, right = (find(out, ending) for ending in pair)
            tensors[left], tensors[right] = tensors[right], tensors[left]

    return edit(out, change)


def swap_query_and_key(out: Conversion) -> Conversion:
    attention = f"{BLOCK}attention.attention"
    return swap(out, *((f"{attention}.query.{kind}", f"{attention}.key.{kind}") for kind in ("weight", "bias")))


def swap_query_and_value_bias(out: Conversion) -> Conversion:
    return swap(out, (f"{BLOCK}attention.attention.query.bias", f"{BLOCK}attention.attention.value.bias"))


def swap_layer_scales(out: Conversion) -> Conversion:
    return swap(out, (f"{BLOCK}lambda_1", f"{BLOCK}lambda_2"))


def swap_lateral_convolutions(out: Conversion) -> Conversion:
    kind = "convolution" if transformers_major() > 4 else "conv"
    return swap(out, (f"lateral_convs.0.{kind}.weight", f"lateral_convs.1.{kind}.weight"))


def swap_mean_and_variance(out: Conversion) -> Conversion:
    return swap(out, ("fpn1.1.running_mean", "fpn1.1.running_var"))


def roll_the_position_bias(out: Conversion) -> Conversion:
    return change_tensor(out, "relative_position_bias_table", lambda table: table.roll(1, dims=0))


def zero_the_mask_token(out: Conversion) -> Conversion:
    return change_tensor(out, "mask_token", torch.zeros_like)


def count_another_batch(out: Conversion) -> Conversion:
    return change_tensor(out, "fpn1.1.num_batches_tracked", lambda counter: counter + 1)


def set_config(name: str, value: object, out: Conversion) -> Conversion:
    setattr(out.config, name, value)
    return out


shift_out_indices_by_one_only = partial(set_config, "out_indices", [1, 2, 3, 4])


def swap_gate_and_up(out: Conversion) -> Conversion:
    keys = [find(out, f"{BLOCK}mlp.weights_in.{kind}") for kind in ("weight", "bias")]
    return edit(
        out, lambda tensors: [tensors.update({key: tensors[key].roll(len(tensors[key]) // 2, 0)}) for key in keys]
    )


def drop_the_last_layer_scale(out: Conversion) -> Conversion:
    return edit(out, lambda tensors: tensors.pop(find(out, "encoder.layer.2.layer_scale2.lambda1")))


set_a_larger_eps, set_twice_the_eps, set_a_tiny_eps = (
    partial(set_config, "layer_norm_eps", eps) for eps in (1e-5, 2e-6, 1e-12)
)
set_another_number_of_heads = partial(set_config, "num_attention_heads", 2 * NUM_HEADS)


def shift_position_embeddings(out: Conversion) -> Conversion:
    return change_tensor(out, "position_embeddings", lambda tensor: tensor.roll(1, dims=1))


def zero_a_bias(out: Conversion) -> Conversion:
    return change_tensor(out, f"{BLOCK}mlp.fc1.bias", torch.zeros_like)


def zero_the_key_bias(out: Conversion) -> Conversion:
    return change_tensor(out, f"{BLOCK}attention.attention.key.bias", torch.zeros_like)


def change_one_element(out: Conversion) -> Conversion:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed[3, 5] += 0.1 * tensor.std()
        return changed

    return change_tensor(out, f"{BLOCK}mlp.fc1.weight", change)


def cast_through_bfloat16(out: Conversion) -> Conversion:
    return edit(out, lambda tensors: tensors.update({key: t.bfloat16().to(t.dtype) for key, t in tensors.items()}))


def change_tensor(out: Conversion, ending: str, change: Callable[[Tensor], Tensor]) -> Conversion:
    key = find(out, ending)
    return edit(out, lambda tensors: tensors.update({key: change(tensors[key])}))


@dataclass
class FaultySubject(Subject):
    """A tiny model whose every conversion carries a fault."""

    fault: Fault = field(kw_only=True)

    @property
    def inputs(self) -> list[InputCase]:
        if self.family.name == "dinov2":
            return [InputCase("native", 70, 70, batch=2), InputCase("masked", 42, 42, batch=2, masked=True)]
        return [case for case in super().inputs if not case.photo]

    def convert(self, image_size: int | None) -> Conversion:
        return self.fault(super().convert(image_size))


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[[str, Fault], FaultySubject]]:
    """Make a faulty subject of a golden architecture, with synthetic weights."""
    subjects = []

    def build(name: str, fault: Fault) -> FaultySubject:
        golden = read_golden(name)
        torch.save(draw_state_dict(golden.family, golden.spec, name, 0), tmp_path / "tiny.pth")
        request = Request(checkpoint=tmp_path / "tiny.pth", overrides=golden.overrides)
        subjects.append(FaultySubject(f"{golden.family.name}_custom", request, fault=fault))
        return subjects[-1]

    yield build
    for subject in subjects:
        subject.close()


def intact(out: Conversion) -> Conversion:
    return out


FAULTS = [
    # fault                      model                     tensors activations
    (swap_query_and_key,          "dinov2_tiny",            True,  True),
    (swap_gate_and_up,            "dinov2_tiny_swiglu",     True,  True),
    (drop_the_last_layer_scale,   "dinov2_tiny",            True,  True),
    (set_a_larger_eps,            "dinov2_tiny",            False, True),
    (set_twice_the_eps,           "dinov2_tiny_1layer",     False, True),
    (set_a_tiny_eps,              "dinov2_tiny_reg",        False, True),
    (set_another_number_of_heads, "dinov2_tiny",            True,  True),
    (shift_position_embeddings,   "dinov2_tiny_reg",        True,  True),
    (zero_a_bias,                 "dinov2_tiny_1layer",     True,  True),
    (zero_the_key_bias,           "dinov2_tiny",            True,  True),
    (change_one_element,          "dinov2_tiny_reg_1layer", True,  True),
    (cast_through_bfloat16,       "dinov2_tiny",            True,  True),
    (intact,                      "dinov2_tiny",            False, False),
    (intact,                      "dinov2_tiny_swiglu",     False, False),
    (intact,                      "dinov2_tiny_reg_1layer", False, False),
    # fault                         model                          tensors activations
    (swap_query_and_value_bias,      "data2vec_vision_tiny",        True,  True),
    (swap_layer_scales,              "data2vec_vision_tiny_ft1k",   True,  True),
    (roll_the_position_bias,         "data2vec_vision_tiny",        True,  True),
    (roll_the_position_bias,         "data2vec_vision_tiny_ft1k",   True,  True),
    (zero_the_mask_token,            "data2vec_vision_tiny",        True,  True),
    (set_a_tiny_eps,                 "data2vec_vision_tiny",        True,  True),
    (set_a_tiny_eps,                 "data2vec_vision_tiny_ft1k",   True,  True),
    (set_a_tiny_eps,                 "data2vec_vision_tiny_ade20k", True,  True),
    (set_twice_the_eps,              "data2vec_vision_tiny_ade20k", False, True),
    (swap_lateral_convolutions,      "data2vec_vision_tiny_ade20k", True,  True),
    (swap_mean_and_variance,         "data2vec_vision_tiny_ade20k", True,  True),
    (shift_out_indices_by_one_only, "data2vec_vision_tiny_ade20k", True,  True),
    (count_another_batch,            "data2vec_vision_tiny_ade20k", True,  True),
    (intact,                         "data2vec_vision_tiny",        False, False),
    (intact,                         "data2vec_vision_tiny_ft1k",   False, False),
    (intact,                         "data2vec_vision_tiny_ade20k", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "model", "tensors", "activations"), FAULTS)
def test_a_fault_is_noticed_by_the_tensors(
    fault: Fault, model: str, tensors: bool, activations: bool, build: Callable[[str, Fault], FaultySubject]
) -> None:
    subject = build(model, fault)
    if tensors:
        with pytest.raises(ConversionError):
            _ = subject.staged
    else:
        assert subject.staged


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("fault", "model", "tensors", "activations"), FAULTS)
def test_a_fault_is_noticed_by_the_activations_alone(
    fault: Fault,
    model: str,
    tensors: bool,
    activations: bool,
    attention: str,
    build: Callable[[str, Fault], FaultySubject],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for check in ("_check_config", "_check_tensors"):
        monkeypatch.setattr(f"conversion.artifact.{check}", lambda *_: None)
    subject = build(model, fault)
    # the original is not converted, so it must not carry the fault
    golden = read_golden(model)
    subject.originals["cpu"] = golden.family.load_original(golden.spec, subject.state_dicts["checkpoint"])
    if fault is drop_the_last_layer_scale:
        with pytest.raises(ConversionError, match=r"missing keys: .*layer\.2\.layer_scale2"):
            subject.verify("cpu", "float32", attention)
        return
    cell = subject.verify("cpu", "float32", attention)
    assert (cell.verdict is Verdict.FAILED) == activations, describe_failure(model, attention, cell.inputs)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_registers_counted_as_patches_are_noticed(
    attention: str, build: Callable[[str, Fault], FaultySubject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that averages registers with the patches; here the original's, for the comparison has two sides."""
    from conversion.dinov2.original import Dinov2

    def part_tokens(self: Dinov2, tokens: Tensor) -> dict[str, Tensor]:
        return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, 1:]}

    monkeypatch.setattr(Dinov2, "_part_tokens", part_tokens)
    cell = build("dinov2_tiny_reg_1layer", intact).verify("cpu", "float32", attention)
    native = cell.inputs[0]
    failed = [point.point for point in native.points if point.verdict is Verdict.FAILED]
    assert failed == ["pooled", "logits", "returned.logits"]
