"""Faults put into the conversion of a tiny model, each judged by the levels of proof and by three other rules.

A fault of the key map is put into the table that converts *and* restores, so that the bytes come back right and only
what the model computes can tell. The others are put into what was converted.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import conversion
from conversion import ConversionError
from conversion.artifact.config_fields import set_field
from conversion.artifact.load import load_converted
from conversion.intake.synthetic import draw_state_dict
from conversion.mapping import key_map
from conversion.parity.capture import ForwardPass
from conversion.parity.compare import Comparison, Local
from conversion.parity.metrics import is_bit_equal
from conversion.parity.original_run import OriginalRun
from conversion.state_dicts.filled import take_out_filled
from conversion.suite.inputs import InputCase
from tests.support.golden import choose_inexact_attention, read_golden, shorten
from tests.support.runs import KeptRun, run_original

# the levels of proof that can notice a fault, and the rules that others go by
LEVELS = ("identity", "intake", "keys", "tensors", "activations", "artifact")
CLS_ATOL, OUTPUT_ATOL, COSINE = 1e-3, 1e-5, 0.99
OTHERS = (f"CLS token within {CLS_ATOL:g}", f"outputs within {OUTPUT_ATOL:g}", f"cosine of {COSINE}")


@dataclass(frozen=True)
class Injection:
    """A fault at one place.

    Attributes:
        kind: of fault; a row of the kill matrix.
        where: the key, or keys, or the setting.
        tensors: target key to the tensor that the fault gives it; None where the key is gone.
        table: the key map with the fault, if it lies there.
        config: settings of the transformers config that it changes; of a config within it, with both names and a dot.
    """

    kind: str
    where: str
    tensors: Mapping[str, Tensor | None] = field(default_factory=dict)
    table: Mapping[str, tuple[str, ...]] | None = None
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What noticed a fault, of :data:`LEVELS` and :data:`OTHERS`."""

    kind: str
    where: str
    noticed_by: frozenset[str]

    @property
    def survives(self) -> bool:
        """Whether no level of proof noticed it."""
        return self.noticed_by.isdisjoint(LEVELS)


class FaultyModel:
    """A small model with synthetic weights, converted and loaded once, and what its original computes.

    Args:
        name: of the model; its tensors depend on it.
        overrides: what shapes cannot tell about it.
        source: its tensors; drawn unless given.
        dtype: that it is converted and compared in.
    """

    def __init__(
        self,
        name: str,
        family: Any,
        spec: Any,
        overrides: Mapping[str, Any],
        source: dict[str, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        side: int | None = None,
    ) -> None:
        self.name, self.family, self.spec = name, family, spec
        source = draw_state_dict(family, spec, name, 0) if source is None else source
        source = {key: value.to(dtype) if value.is_floating_point() else value for key, value in source.items()}
        self.out = conversion.convert(source, **overrides)
        self.attention = choose_inexact_attention(family)
        self.dtype = str(dtype).removeprefix("torch.")
        self.model = load_converted(self.out, attention=self.attention, dtype=self.dtype)
        original = family.load_original(spec, source)
        side = side or spec.image_size
        native = InputCase("native", side, side)
        deviation = family.find_deviation(spec, native.shape, self.dtype, self.attention)
        attributes = deviation.original_attributes if deviation else {}
        self.runs = [
            replace(run_original(family, spec, original, case, dtype, KeptRun), attributes=attributes)
            for case in (native, replace(native, masked=True))
            if spec.takes_masks or not case.masked
        ]

    @classmethod
    def of(cls, golden_name: str, dtype: torch.dtype = torch.float32, *, is_short: bool = False) -> "FaultyModel":
        """One with a golden model's architecture.

        Args:
            is_short: cut to five blocks, as :func:`~tests.support.golden.shorten` does.
        """
        golden = read_golden(golden_name)
        spec, overrides = shorten(golden) if is_short else (golden.spec, golden.overrides)
        return cls(golden_name, golden.family, spec, overrides, dtype=dtype, side=golden.config["image_size"])

    @cached_property
    def table(self) -> dict[str, tuple[str, ...]]:
        """The key map, written out."""
        return self.family.expand_key_map(self.spec)

    @cached_property
    def placement(self) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Target key to the tensors in memory that it fills, and which of its elements each takes.

        transformers renames and cuts on loading, each version otherwise; so it is asked: a model is loaded in which
        every element is a number of its own.
        """
        numbers, starts, end = {}, {}, 1
        for key, tensor in self.out.state_dict.items():
            dtype = torch.float64 if tensor.is_floating_point() else torch.int64
            numbers[key] = torch.arange(end, end + tensor.numel(), dtype=dtype).view(tensor.shape)
            starts[key], end = end, end + tensor.numel()
        numbered = load_converted(replace(self.out, state_dict=numbers), attention=self.attention, dtype="float64")
        own = self.model.state_dict(keep_vars=True)
        places: dict[str, list[tuple[Tensor, Tensor]]] = {key: [] for key in starts}
        for name, value in numbered.state_dict().items():
            first = int(value.flatten()[0])
            key = max((key for key in starts if starts[key] <= first), key=starts.__getitem__)
            places[key].append((own[name], value.long() - starts[key]))
        return places

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """All that the original computes from the first input."""
        run = self.runs[0]
        reader = run.read_expected()
        return {name: tensor for stage in run.stages for name, tensor in reader.read(stage).values.items()}

    def judge(self, injection: Injection, *, asks_others: bool = True) -> Outcome:
        """What notices it; without the other rules, the model runs no further than to where activations notice it."""
        changed = {**self.out.state_dict, **injection.tensors}
        state_dict = {key: tensor for key, tensor in changed.items() if tensor is not None}
        noticed = set()
        if state_dict.keys() != self.out.state_dict.keys():
            noticed.add("keys")
        if not self._gives_back(state_dict, injection.table or self.table):
            noticed.add("tensors")
        if not injection.config and "keys" not in noticed:
            with self._placed(injection.tensors):
                noticed |= self.run(self.model, asks_others)
            return Outcome(injection.kind, injection.where, frozenset(noticed))
        config = copy.deepcopy(self.out.config)
        for name, value in injection.config.items():
            set_field(config, name, value)
        out = replace(self.out, state_dict=state_dict, config=config)
        try:
            model = load_converted(out, attention=self.attention, dtype=self.dtype)
        except ConversionError:
            noticed |= {"artifact"} | (self._ask_others_about_what_loads(out) if asks_others else set())
        else:
            try:
                noticed |= self.run(model, asks_others)
            except RuntimeError:  # its shapes do not fit together: it computes nothing
                noticed |= {"activations", *(OTHERS if asks_others else ())}
        return Outcome(injection.kind, injection.where, frozenset(noticed))

    @torch.inference_mode()
    def has_effect(self, injection: Injection) -> bool:
        """Whether the model computes another bit with the fault than without, at any capture point of any input."""
        for run in self.runs:
            own = self._compute(run)
            with self._placed(injection.tensors):
                faulty = self._compute(run)
            if not all(is_bit_equal(tensor, faulty[name]) for name, tensor in own.items()):
                return True
        return False

    def _compute(self, run: OriginalRun) -> dict[str, Tensor]:
        """All that the loaded model computes from an input, by capture point."""
        with closing(ForwardPass(self.model, run.stages, "hf", run.inputs)) as forward:
            return {name: value for stage in run.stages for name, value in forward.read(stage).values.items()}

    @torch.inference_mode()
    def run(self, model: nn.Module, asks_others: bool) -> set[str]:
        """What notices a fault in a loaded model; the other rules are asked about the first input alone."""
        noticed = set()
        for run in self.runs:
            comparison, actual = Comparison(run, measures_local=Local.NOWHERE), {}
            are_others_asked = asks_others and run is self.runs[0]
            with closing(ForwardPass(model, run.stages, "hf", run.inputs)) as forward:
                for stage in run.stages:
                    if comparison.evidence is not None and not are_others_asked:
                        break
                    reached = forward.read(stage)
                    actual |= reached.values
                    if comparison.evidence is None:
                        comparison.add(stage, reached, model)
            if are_others_asked:
                noticed |= judge_by_others(self.expected, actual)
            if comparison.evidence is not None:
                return noticed | {"activations"}
        return noticed

    def _gives_back(self, state_dict: Mapping[str, Tensor], table: Mapping[str, tuple[str, ...]]) -> bool:
        try:
            own = take_out_filled(self.family, self.spec, state_dict, None)
            restored = key_map.restore(own, table, self.out.left_out)
        except ConversionError:
            return False
        return all(is_bit_equal(tensor, restored[key]) for key, tensor in self.out.source.items())

    @contextmanager
    def _placed(self, tensors: Mapping[str, Tensor | None]) -> Iterator[None]:
        """With other tensors in the loaded model."""
        before = {}
        for key, tensor in tensors.items():
            assert tensor is not None
            for place, indices in self.placement[key]:
                before[place] = place.data
                place.data = tensor.flatten()[indices]
        try:
            yield
        finally:
            for place, data in before.items():
                place.data = data

    def _ask_others_about_what_loads(self, out: conversion.Conversion) -> set[str]:
        """What the other rules notice of a model that transformers loads with a warning; an error is noticed."""
        import transformers

        torch.manual_seed(0)  # what is missing is filled at random
        try:
            model = getattr(transformers, out.architecture).from_pretrained(
                None,
                config=out.config,
                state_dict=dict(out.state_dict),
                attn_implementation=self.attention,
                ignore_mismatched_sizes=True,
            )
            return self.run(model.eval(), asks_others=True) & set(OTHERS)
        except (RuntimeError, ValueError, AttributeError):  # it cannot be built, or cannot run
            return set(OTHERS)


def judge_by_others(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> set[str]:
    """Which of :data:`OTHERS` notice a difference."""
    last = "norm" if "norm" in expected else [name for name in expected if re.fullmatch(r"block\.\d+", name)][-1]
    outputs = [(expected[name], actual.get(name)) for name in expected if name.startswith("returned.")]
    if last not in actual or any(right is None or left.shape != right.shape for left, right in outputs):
        return set(OTHERS)
    token = (expected[last][:, 0] - actual[last][:, 0]).abs().max()
    farthest = max(float((left - right).abs().max()) for left, right in outputs)
    cosine = min(float(F.cosine_similarity(left.flatten(), right.flatten(), dim=0)) for left, right in outputs)
    passes = (float(token) <= CLS_ATOL, farthest <= OUTPUT_ATOL, cosine >= COSINE)  # a NaN passes nowhere
    return {rule for rule, is_passed in zip(OTHERS, passes, strict=True) if not is_passed}
