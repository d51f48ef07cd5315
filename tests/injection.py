"""Faults put into the conversion of a tiny model, each judged by the suite's own verdict and by three other rules.

A fault in the key map is put into the table that converts and restores, so that the bytes restored are right and only
activations can tell. A fault in a tensor or in the config is put in after the conversion.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import conversion
from conversion import ConversionError, key_map
from conversion.loading import load_converted
from conversion.parity.capture import ForwardPass
from conversion.parity.compare import Comparison, OriginalRun
from conversion.parity.faults import TENSOR_FAULTS, list_orders
from conversion.parity.metrics import is_bit_equal
from conversion.parity.points import Stage
from conversion.synthetic import draw_state_dict
from tests.golden import read_golden
from tests.inputs import InputCase, draw_inputs

BLOCK = re.compile(r"\.layer\.(\d+)\.")

# what others hold two models against: largest difference of the CLS token, of any output; cosine of any output
CLS_ATOL, OUTPUT_ATOL, COSINE = 1e-3, 1e-5, 0.99


@dataclass(frozen=True)
class Injection:
    """A fault at one place.

    Attributes:
        kind: of fault; a row of the kill matrix.
        where: the key, or keys, or the setting.
        tensors: target keys to the tensors that the fault gives them; None: the key is gone.
        config: settings of the transformers config that it changes.
        is_restored: whether restoring gives the source back nevertheless.
    """

    kind: str
    where: str
    tensors: Mapping[str, Tensor | None] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    is_restored: bool = False


@dataclass(frozen=True)
class Outcome:
    """By which rules a fault was noticed: the levels of proof, and what others look at."""

    injection: Injection
    tensors: bool
    activations: bool
    artifact: bool
    cls_token: bool
    outputs: bool
    cosine: bool

    @property
    def is_noticed(self) -> bool:
        """Whether one of the levels of proof noticed it."""
        return self.tensors or self.activations or self.artifact


class Patient:
    """A tiny model with synthetic weights, converted and loaded once, and what its original computes.

    Args:
        name: of a golden model.
        attention: not the exact one, so that a fault must stand out from rounding.
    """

    def __init__(self, name: str, seed: int = 0, attention: str | None = None) -> None:
        golden = read_golden(name)
        self.name, self.family, self.spec = name, golden.family, golden.spec
        source = draw_state_dict(self.family, self.spec, name, seed)
        self.out = conversion.convert(source, **golden.overrides)
        exact = self.family.choose_attention()
        self.attention = attention or {"eager": "sdpa", "sdpa": "eager"}[exact]
        self.model = load_converted(self.out, attention=self.attention)
        original = self.family.load_original(self.spec, source)
        size, patch = self.spec.image_size, self.spec.patch_size
        cases = [InputCase("native", size, size)]
        cases += [InputCase("masked", size, size, masked=True)] if self.spec.mask_token else []
        self.runs = [
            OriginalRun(
                original,
                self.family.list_stages(self.spec, masked=case.masked),
                draw_inputs(case, patch, seed),
                torch.float32,
                keep=True,
            )
            for case in cases
        ]

    @cached_property
    def expanded(self) -> dict[str, tuple[str, ...]]:
        return self.family.expand_key_map(self.spec)

    @cached_property
    def placement(self) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Target key to the parameters in memory that it fills, and which of its elements each takes.

        transformers renames and cuts on loading, each version otherwise; so it is asked: a twin is loaded whose every
        element is a number of its own.
        """
        offsets, end = {}, 1
        for key, tensor in self.out.state_dict.items():
            offsets[key], end = end, end + tensor.numel()
        numbers = {
            key: torch.arange(start, start + self.out.state_dict[key].numel(), dtype=torch.float64)
            .view(self.out.state_dict[key].shape)
            .to(torch.float64 if self.out.state_dict[key].is_floating_point() else torch.int64)
            for key, start in offsets.items()
        }
        numbered = load_converted(replace(self.out, state_dict=numbers), attention=self.attention, dtype="float64")
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        places: dict[str, list[tuple[Tensor, Tensor]]] = {key: [] for key in offsets}
        for name, value in numbered.state_dict().items():
            first = int(value.flatten()[0])
            key = max((key for key, start in offsets.items() if start <= first), key=offsets.__getitem__)
            places[key].append((own[name], value.long() - offsets[key]))
        return places

    def judge(self, injection: Injection) -> Outcome:
        """By which rules it is noticed."""
        tensors = not injection.is_restored and bool(injection.tensors)
        if injection.config or None in injection.tensors.values() or not injection.tensors.keys() <= self.placement.keys():
            try:
                model = self.load(injection)
            except (ConversionError, RuntimeError, ValueError):
                return Outcome(injection, tensors, False, True, True, True, True)
            return Outcome(injection, tensors, *self.run(model))
        restored = self.place(injection.tensors)
        outcome = Outcome(injection, tensors, *self.run(self.model))
        restored()
        return outcome

    def load(self, injection: Injection) -> nn.Module:
        """The model with the fault, loaded anew."""
        changed = {**self.out.state_dict, **injection.tensors}
        config = type(self.out.config).from_dict({**self.out.config.to_dict(), **injection.config})
        state_dict = {key: tensor for key, tensor in changed.items() if tensor is not None}
        out = replace(self.out, state_dict=state_dict, config=config)
        return load_converted(out, attention=self.attention)

    def place(self, tensors: Mapping[str, Tensor | None]) -> Callable[[], None]:
        """Give the loaded model other tensors; what is returned takes them back."""
        before = []
        for key, tensor in tensors.items():
            assert tensor is not None
            for parameter, indices in self.placement[key]:
                before.append((parameter, parameter.data))
                parameter.data = tensor.flatten()[indices]

        def take_back() -> None:
            for parameter, data in reversed(before):
                parameter.data = data

        return take_back

    @torch.inference_mode()
    def run(self, model: nn.Module) -> tuple[bool, bool, bool, bool, bool]:
        """Whether it is noticed by activations; by the artifact: no; and by the three other rules, on the first input."""
        noticed, others = False, (False, False, False)
        for run in self.runs:
            comparison, expected, actual = Comparison(run, is_local=False), {}, {}
            forward, original = ForwardPass(model, run.stages, "hf", run.inputs), run.read_expected()
            for stage in run.stages:
                reached = forward.read(stage)
                expected |= original.read(stage).values
                actual |= reached.values
                if comparison.evidence is None:
                    comparison.add(stage, reached, model)
            if run is self.runs[0]:
                others = judge_by_others(expected, actual)
            noticed = comparison.evidence is not None
            if noticed:
                break
        return noticed, False, *others


def judge_by_others(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> tuple[bool, bool, bool]:
    """Whether a difference is noticed by the CLS token, by all outputs, by their cosine."""
    last = "norm" if "norm" in expected else [name for name in expected if re.fullmatch(r"block\.\d+", name)][-1]
    tokens = (expected[last][:, 0] - actual[last][:, 0]).abs().max()
    outputs = [(expected[name], actual[name]) for name in expected if name.startswith("returned.")]
    farthest = max(float((left - right).abs().max()) for left, right in outputs)
    cosine = min(float(F.cosine_similarity(left.flatten(), right.flatten(), dim=0)) for left, right in outputs)
    return not tokens <= CLS_ATOL, not farthest <= OUTPUT_ATOL, not cosine >= COSINE


def list_injections(patient: Patient) -> Iterator[Injection]:
    """Every fault on every tensor and setting that it applies to."""
    for injection in [*list_map_faults(patient), *list_tensor_faults(patient)]:
        changed = {
            key: tensor
            for key, tensor in injection.tensors.items()
            if tensor is None or key not in patient.out.state_dict
            or not is_bit_equal(tensor.contiguous(), patient.out.state_dict[key].contiguous())
        }
        if changed:  # else nothing is another than it should be
            yield injection


def list_map_faults(patient: Patient) -> Iterator[Injection]:
    """Wrong tables: targets exchanged, sent to the neighbouring block, dropped."""
    tensors, expanded = patient.out.state_dict, patient.expanded

    def convert(kind: str, where: str, renamed: Mapping[str, str]) -> Injection:
        faulty = {source: tuple(renamed.get(name, name) for name in names) for source, names in expanded.items()}
        converted = key_map.convert(patient.out.source, faulty)
        changed: dict[str, Tensor | None] = {name: None for name in renamed if name not in converted}
        changed |= {name: converted[name] for name in set(renamed.values())}
        return Injection(kind, where, changed, is_restored=True)

    for left, right in combinations(tensors, 2):
        if (tensors[left].shape, tensors[left].dtype) == (tensors[right].shape, tensors[right].dtype):
            kind = describe_pair(left, right)
            yield convert(kind, f"{left} <-> {right}", {left: right, right: left})
    for names in expanded.values():
        if len(names) > 1 and names[0].endswith(".weight"):
            fused = [names, tuple(name.replace(".weight", ".bias") for name in names)]
            for order in list_orders(len(names)):
                renamed = {
                    own[index]: own[source]
                    for own in fused if all(name in tensors for name in own)
                    for index, source in enumerate(order)
                }
                yield convert("q, k, v in another order", f"{names[0]}: {order}", renamed)
    for name in tensors:
        yield convert("target dropped", name, {name: "dropped"})
        if found := BLOCK.search(name):
            start, end = found.span(1)
            neighbour = f"{name[:start]}{int(found[1]) + 1}{name[end:]}"
            yield convert("target sent to the next block", name, {name: neighbour})


def describe_pair(left: str, right: str) -> str:
    """The kind of fault that exchanging these two targets is."""
    blocks = [found[1] if (found := BLOCK.search(name)) else None for name in (left, right)]
    if None in blocks:
        return "targets exchanged, outside of blocks"
    if blocks[0] == blocks[1]:
        return "targets exchanged, within a block"
    same = BLOCK.sub(".", left) == BLOCK.sub(".", right)
    return f"targets exchanged, between blocks, {'the same' if same else 'another'} tensor"


def list_tensor_faults(patient: Patient) -> Iterator[Injection]:
    """What can become of each tensor by itself."""
    tensors = patient.out.state_dict
    for key, tensor in tensors.items():
        for kind, fault in TENSOR_FAULTS.items():
            changed = fault(tensor)
            if changed is not None:
                yield Injection(kind, key, {key: changed})
        if found := BLOCK.search(key):
            start, end = found.span(1)
            neighbour = f"{key[:start]}{(int(found[1]) + 1) % patient.spec.depth}{key[end:]}"
            yield Injection("tensor of the neighbouring block", key, {key: tensors[neighbour]})
