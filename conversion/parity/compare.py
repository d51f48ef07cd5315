"""Run a model, keep what passes its capture points, and compare two models point by point."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from conversion.parity.metrics import Distance, error_of
from conversion.parity.verdict import PointVerdict, Verdict, Yardstick, judge, note_difference

Captures = Mapping[str, Tensor]


@dataclass(frozen=True)
class CapturePoint:
    """A place where original and converted model must carry the same values.

    Both places are written ``module.path:input`` (its first argument), ``module.path:output``, or ``:name`` for the
    entry called ``name`` of what the model returns.

    Attributes:
        name: ``embeddings``, ``block.7``, ``norm``, ``pooled``, ``logits``.
        original, hf: the place in either model.
        sources: shell-style patterns of the original's keys whose tensors enter here for the first time.
    """

    name: str
    original: str
    hf: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """What both models are given: ``(B, 3, height, width)``, and ``(B, N)`` where patches are masked."""

    pixel_values: Tensor
    bool_masked_pos: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Inputs":
        masks = None if self.bool_masked_pos is None else self.bool_masked_pos.to(device)
        return Inputs(self.pixel_values.to(device, dtype), masks)

    def split(self) -> "list[Inputs]":
        """The images of the batch, each by itself."""
        masks = [None] * len(self.pixel_values) if self.bool_masked_pos is None else self.bool_masked_pos.split(1)
        return [Inputs(*image) for image in zip(self.pixel_values.split(1), masks, strict=True)]


@dataclass
class OriginalRun:
    """What the original computes from one input; each part on first use, kept until forgotten.

    Attributes:
        dtype: that the comparison is made in, whatever dtype the weights are kept in.
        counterfactuals: name of a known deviation to what the original computes under its counterfactual.
    """

    original: nn.Module
    points: Sequence[CapturePoint]
    inputs: Inputs
    dtype: torch.dtype
    counterfactuals: "dict[str, OriginalRun]" = field(default_factory=dict)

    @cached_property
    def expected(self) -> Captures:
        """The original in the dtype of the comparison."""
        return capture_original(self.original, self.points, self.inputs, self.dtype)

    @cached_property
    def more_precise(self) -> Captures:
        """The original in float64, from the inputs as the comparison's dtype has them.

        For a comparison in float64, which has nothing more precise to be held against, it is the original in float32:
        rounding errors scale with the unit roundoff, so the float64 error is the float32 error times their ratio.
        """
        other = torch.float32 if self.dtype == torch.float64 else torch.float64
        images = self.inputs.to("cpu", self.dtype).split()  # one at a time: float64 convolutions take much memory
        captured = [capture_original(self.original, self.points, image, other) for image in images]
        return {name: torch.cat([each[name] for each in captured]) for name in captured[0]}

    def yardstick(self, point: str) -> Yardstick:
        """What decides at this capture point whether a difference is rounding."""
        expected, other = self.expected[point], self.more_precise[point]
        if self.dtype != torch.float64:
            return Yardstick(other, error_of(expected, other))
        scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        error = error_of(other, expected)
        return Yardstick(expected, Distance(error.max_abs * scale, error.rms * scale))

    def under(self, deviation: str, inputs: Inputs | None) -> "OriginalRun":
        """What the original computes under a known deviation's counterfactual; to be used while that is in force.

        Args:
            inputs: the input under the counterfactual, where the deviation lies there.
        """
        if deviation not in self.counterfactuals:
            other = OriginalRun(self.original, self.points, inputs or self.inputs, self.dtype)
            self.counterfactuals[deviation] = other
        return self.counterfactuals[deviation]

    def forget_yardstick(self) -> None:
        """Free what only the yardstick needs; it is computed again if asked for."""
        for run in (self, *self.counterfactuals.values()):
            run.__dict__.pop("more_precise", None)


def compare(run: OriginalRun, actual: Captures) -> tuple[PointVerdict, ...]:
    """Judge what the converted model computed at every capture point, in their order."""
    return _at_every_point(
        run, actual, lambda name: judge(name, run.expected[name], actual[name], partial(run.yardstick, name))
    )


def note_differences(run: OriginalRun, actual: Captures) -> tuple[PointVerdict, ...]:
    """Note, without judging, how far the converted model is off where a known deviation applies."""
    return _at_every_point(run, actual, lambda name: note_difference(name, run.expected[name], actual[name]))


def _at_every_point(
    run: OriginalRun, actual: Captures, verdict_at: Callable[[str], PointVerdict]
) -> tuple[PointVerdict, ...]:
    return tuple(
        verdict_at(point.name)
        if point.name in run.expected and point.name in actual
        else PointVerdict(point.name, Verdict.FAILED, reason="this capture point was never reached")
        for point in run.points
    )


def capture_original(
    original: nn.Module, points: Sequence[CapturePoint], inputs: Inputs, dtype: torch.dtype
) -> Captures:
    """Run the original in ``dtype``, whatever dtype its weights are kept in; inputs are rounded to ``dtype`` first."""
    device = next(original.parameters()).device
    with cast_parameters(original, dtype):
        call = partial(original, **_arguments(inputs.to(device, dtype)))
        return _capture(original, {point.name: point.original for point in points}, call)


def capture_hf(model: nn.Module, points: Sequence[CapturePoint], inputs: Inputs) -> Captures:
    """Run a transformers model in the dtype it was loaded in; masked inputs go to its base model, which takes masks."""
    parameter = next(model.parameters())
    entry: Any = model if inputs.bool_masked_pos is None else model.base_model
    call = partial(entry, **_arguments(inputs.to(parameter.device, parameter.dtype)))
    return _capture(model, {point.name: point.hf for point in points}, call)


@contextmanager
def cast_parameters(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Run a model in another dtype with one module's weights cast at a time.

    While a module runs, its own parameters and floating-point buffers are replaced by casts; afterwards it has its
    own back. A copy of a whole model in float64 would take twice its memory. The parameters of the outermost module
    are cast for the whole run.
    """
    with ExitStack() as stack:
        for module in model.modules():
            weights = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            weights = {name: value for name, value in weights.items() if value.is_floating_point()}
            if any(value.dtype != dtype for value in weights.values()):
                stack.callback(_assign, module, weights)
                stack.enter_context(_hook(module.register_forward_pre_hook(partial(_cast, weights, dtype))))
                stack.enter_context(_hook(module.register_forward_hook(partial(_restore, weights))))
        yield


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype, module: nn.Module, _args: Any) -> None:
    for name, value in weights.items():
        is_parameter = isinstance(value, nn.Parameter)
        setattr(module, name, nn.Parameter(value.to(dtype), requires_grad=False) if is_parameter else value.to(dtype))


def _restore(weights: Mapping[str, Tensor], module: nn.Module, _args: Any, _output: Any) -> None:
    _assign(module, weights)


def _assign(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        setattr(module, name, value)


def _capture(model: nn.Module, taps: Mapping[str, str], call: Callable[[], Any]) -> dict[str, Tensor]:
    captured: dict[str, Tensor] = {}
    with ExitStack() as stack, torch.inference_mode():
        for name, tap in taps.items():
            path, side = tap.split(":")
            if not path:
                continue
            module = model.get_submodule(path)
            if side == "input":
                hook = module.register_forward_pre_hook(partial(_keep_input, captured, name))
            else:
                hook = module.register_forward_hook(partial(_keep_output, captured, name))
            stack.enter_context(_hook(hook))
        result = call()
    for name, tap in taps.items():
        path, item = tap.split(":")
        if not path and item in result:
            captured[name] = result[item]
    return captured


def _keep_input(captured: dict[str, Tensor], name: str, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
    captured[name] = args[0]


def _keep_output(captured: dict[str, Tensor], name: str, _module: nn.Module, _args: Any, output: Any) -> None:
    captured[name] = output[0] if isinstance(output, tuple) else output


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _arguments(inputs: Inputs) -> dict[str, Tensor]:
    arguments = {"pixel_values": inputs.pixel_values, "bool_masked_pos": inputs.bool_masked_pos}
    return {name: value for name, value in arguments.items() if value is not None}
