"""A forward pass that can be halted at every stage, and what is captured there."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from conversion.parity.points import Inputs, Place, Side, Stage, read_place
from conversion.parity.precision import Arguments, Casts, cast_arguments, cast_parameters, hooked
from conversion.parity.turns import PausableCall


@dataclass
class StageRun:
    """What a model computed in one stage.

    Attributes:
        values: capture point to its tensor.
        arguments: of the stage's module, where it has one.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    arguments: Arguments | None = None


class ForwardPass:
    """One forward pass of a model, run only as far as is asked for, so that several can go side by side.

    The model's own ``forward`` is run, not a rebuilt one, in a thread that waits as soon as the stage that was asked
    for is complete. What a stage computed is handed over and not kept, so that memory does not grow with depth.
    Close it: until then its thread lives, and nothing else may use or copy the model.

    Args:
        dtype: to run in, whatever dtype the weights are kept in; their own unless given. Inputs are rounded to it.
        casts: of the weights, shared with other passes.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        side: Side,
        inputs: Inputs,
        dtype: torch.dtype | None = None,
        casts: Casts | None = None,
    ) -> None:
        self._stages, self._side = stages, side
        self._order = {stage.name: index for index, stage in enumerate(stages)}
        self._runs = {stage.name: StageRun() for stage in stages}
        self._wanted = stages[0]
        self._call = PausableCall(partial(self._run, model, inputs, dtype, casts))

    def read(self, stage: Stage) -> StageRun:
        """Run on until the stage of this name is complete, or the pass has ended. Earlier stages are forgotten.

        Raises:
            ValueError: the pass is closed. What the model raises is raised here, too.
        """
        if self._call.is_closed:
            raise ValueError("a closed pass cannot be read")
        self._wanted = self._stages[self._order[stage.name]]  # in another list it may have another place in the other
        while not self._is_complete(self._wanted) and not self._call.has_ended:
            self._call.resume()
        return self._runs.pop(stage.name)

    def close(self) -> None:
        """End the pass where it is, and free what it holds: its hooks are removed, its thread has ended."""
        self._call.close()
        self._runs.clear()

    def _run(self, model: nn.Module, inputs: Inputs, dtype: torch.dtype | None, casts: Casts | None) -> None:
        parameter = next(model.parameters())
        entry: Any = model
        if self._side == "hf" and inputs.bool_masked_pos is not None and not _takes_masks(model):
            entry = model.base_model
        with ExitStack() as stack:
            if dtype is not None:
                stack.enter_context(cast_parameters(model, dtype, casts))
            for stage in self._stages:
                stack.enter_context(reading_at(model, stage, self._side, partial(self._keep, stage), dtype=dtype))
            result = entry(**inputs.to(parameter.device, dtype or parameter.dtype).arguments)
            for stage in self._stages:
                for point in stage.points:
                    place = read_place(getattr(point, self._side))
                    if not place.module and place.item in result:
                        self._keep(stage, point.name, place.take(result))

    def _keep(self, stage: Stage, name: str, value: Any) -> None:
        self._call.end_if_closed()
        if self._order[stage.name] < self._order[self._wanted.name]:
            self._runs.pop(stage.name, None)
            return
        if name == ARGUMENTS:
            self._runs[stage.name].arguments = value
        else:
            self._runs[stage.name].values[name] = value
        del value  # while the pass is halted, this frame would hold it
        if stage is self._wanted and self._is_complete(stage):
            self._call.pause()

    def _is_complete(self, stage: Stage) -> bool:
        return len(self._runs[stage.name].values) == len(stage.points)


@torch.inference_mode()
def capture(
    model: nn.Module, stages: Sequence[Stage], side: Side, inputs: Inputs, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """All that one forward pass carries past the capture points, point to tensor; arguments as :class:`ForwardPass`."""
    with closing(ForwardPass(model, stages, side, inputs, dtype)) as run:
        return {name: tensor for stage in stages for name, tensor in run.read(stage).values.items()}


def run_stage(
    model: nn.Module, stage: Stage, side: Side, arguments: Arguments, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Run the module of a stage by itself, on a copy of its structure: capture point to its tensor, of those within it.

    Args:
        dtype: to run in; arguments are cast to it.
    """
    path = getattr(stage, side)
    module = copy_structure(model.get_submodule(path))
    args, kwargs = arguments if dtype is None else cast_arguments(arguments, dtype)
    values: dict[str, Tensor] = {}
    with ExitStack() as stack, torch.inference_mode():
        if dtype is not None:
            stack.enter_context(cast_parameters(module, dtype))
        stack.enter_context(reading_at(module, stage, side, values.__setitem__, path, dtype))
        module(*args, **kwargs)
    values.pop(ARGUMENTS)
    return values


def copy_structure(model: nn.Module) -> nn.Module:
    """The same modules once more around the same tensors and configs, with hooks and attributes of their own."""
    configs = (getattr(module, "config", None) for module in model.modules())
    shared = {id(value): value for value in chain(model.parameters(), model.buffers(), configs)}
    copies = {id(module): module.__new__(type(module)) for module in model.modules()}
    memo: dict[int, Any] = {**shared, **copies}
    for module in model.modules():
        vars(copies[id(module)]).update({name: _copy_attribute(value, memo) for name, value in vars(module).items()})
    return copies[id(model)]


def _copy_attribute(value: Any, memo: dict[int, Any]) -> Any:
    # a module has a dozen ordered dictionaries for hooks, most of them empty: deepcopy takes long over each
    return type(value)() if not value and type(value) in (dict, OrderedDict) else copy.deepcopy(value, memo)


ARGUMENTS = "<arguments>"
"""The name under which a stage's module's arguments are handed on."""


@contextmanager
def reading_at(
    model: nn.Module,
    stage: Stage,
    side: Side,
    keep: Callable[[str, Any], object],
    root: str = "",
    dtype: torch.dtype | None = None,
) -> Iterator[None]:
    """Hand on what passes a stage's capture points, and its module's arguments, as soon as it does.

    Args:
        keep: called with the name of the point and its tensor.
        root: path of ``model`` in the whole; points outside are left out.
        dtype: that the model runs in, of tensors that it keeps by name; their own unless given.
    """
    with ExitStack() as stack:
        if getattr(stage, side):
            module = _find(model, getattr(stage, side), root)
            if module is not None:
                hook = partial(_keep_arguments, keep)
                stack.enter_context(hooked(module.register_forward_pre_hook(hook, with_kwargs=True)))
        for point in stage.points:
            place = read_place(getattr(point, side))
            module = _find(model, place.module, root) if place.module else None
            if module is None:
                continue
            keep_value = partial(_keep_value, keep, point.name, place)
            if place.item == "input":
                stack.enter_context(hooked(module.register_forward_pre_hook(partial(_keep_input, keep_value))))
            elif place.item == "output":
                stack.enter_context(hooked(module.register_forward_hook(partial(_keep_output, keep_value))))
            else:
                kept = getattr(module, place.item)
                keep_value(kept.to(dtype) if dtype and kept.is_floating_point() else kept)
        yield


def _takes_masks(model: nn.Module) -> bool:
    """Whether a transformers model takes masks: one with a head mostly does not, and what is below it does."""
    return "bool_masked_pos" in signature(model.forward).parameters


def _find(model: nn.Module, path: str, root: str) -> nn.Module | None:
    """The module at ``path`` of the whole, of which ``model`` is the part at ``root``; None if it is not there."""
    if root and path != root and not path.startswith(f"{root}."):
        return None
    try:
        return model.get_submodule(path[len(root) :].removeprefix("."))
    except AttributeError:
        return None


def _keep_arguments(keep: Callable[[str, Any], object], _module: nn.Module, args: Any, kwargs: Any) -> None:
    keep(ARGUMENTS, (args, kwargs))


def _keep_input(keep: Callable[[Any], None], _module: nn.Module, args: tuple[Any, ...]) -> None:
    if args:  # a module that is called by keywords alone has no first argument: its point is never reached
        keep(args[0])


def _keep_output(keep: Callable[[Any], None], _module: nn.Module, _args: Any, output: Any) -> None:
    keep(output[0] if isinstance(output, tuple) else output)


def _keep_value(keep: Callable[[str, Any], object], name: str, place: Place, value: Any) -> None:
    if isinstance(value, Tensor):
        keep(name, place.cut(value))
