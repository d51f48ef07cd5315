"""A converted model as ``torch.export`` sees it: what goes in, what comes out, what is looked at on the way."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from conversion.errors import ExportError
from conversion.exports.looked_at import name_output, select_stages
from conversion.exports.runs import quote
from conversion.families.base import Spec, load_family
from conversion.parity.capture import ARGUMENTS, reading_at
from conversion.parity.off import RETURNED
from conversion.parity.points import Stage, read_place
from conversion.patching import with_symbolic_sizes
from conversion.state_dicts.convert import Conversion

PIXELS, IMAGES = "pixel_values", "images"
"""Names of the input: normalised, as the image processor gives it; or from 0 to 1, where the graph normalises."""

MOST_IMAGES, LEAST_PATCHES, MOST_PATCHES = 1024, 2, 512
"""Of a batch, and along a side of an image: the ends of what a dynamic graph takes. One patch is a case of its own for
``torch.export``."""

EXAMPLE = (2, 5, 7)
"""Images, and patches down and across, that a dynamic graph is traced with: no two alike, none of them one."""


@dataclass(frozen=True)
class Normalization:
    """What an image processor does last, in the graph: ``(images - mean) / std``, by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """``(B, 3, height, width)`` from 0 to 1."""
        mean, std = (images.new_tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return (images - mean) / std

    def undo(self, pixel_values: Tensor) -> Tensor:
        """The images that come to these pixel values, up to rounding."""
        mean, std = (pixel_values.new_tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return pixel_values * std + mean


@dataclass(frozen=True)
class Traced:
    """A model that is to be exported, to one runtime or to several.

    Attributes:
        model: in eval mode, in the dtype of the export.
        stages: whose points are looked at; see :func:`~conversion.exports.looked_at.select_stages`.
        is_dynamic: whether it takes images of any height and width.
        normalization: that the graph begins with, if it does.
        graphs: the ONNX graphs that torch made of it, by the opset that was asked for; other runtimes take them, too.
    """

    model: nn.Module
    spec: Spec
    stages: Sequence[Stage]
    is_dynamic: bool
    normalization: Normalization | None = None
    graphs: dict[int | None, Any] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """The name of the graph's only input."""
        return IMAGES if self.normalization else PIXELS

    @property
    def returned(self) -> dict[str, str]:
        """Output of the graph to its capture point: what the model returns, by transformers' own names."""
        points = [point for stage in self.stages for point in stage.points]
        return {name_output(point): point.name for point in points if point.name.startswith(RETURNED)}

    @property
    def taps(self) -> dict[str, str]:
        """The same of what is looked at on the way."""
        points = [point.name for stage in self.stages for point in stage.points]
        return {f"at.{name}": name for name in points if not name.startswith(RETURNED)}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the example that it is traced with, ``(B, C, height, width)``."""
        channels = getattr(self.spec, "num_channels", 3)
        batch, rows, columns = EXAMPLE
        if self.is_dynamic:
            return batch, channels, rows * self.spec.patch_size, columns * self.spec.patch_size
        return batch, channels, self.spec.image_size, self.spec.image_size

    def export(self, *, tapped: bool) -> ExportedProgram:
        """The program, with a dynamic batch, and, where the model allows, dynamic height and width.

        Args:
            tapped: it returns what is looked at on the way, too.

        Raises:
            ExportError: torch cannot trace the model.
        """
        outputs = {**self.returned, **(self.taps if tapped else {})}
        wrapped = _Returning(self.model, self.stages, outputs, self.normalization)
        example = torch.zeros(self.shape, dtype=next(self.model.parameters()).dtype)
        dims: dict[int, Any] = {0: Dim("batch", min=1, max=MOST_IMAGES)}
        if self.is_dynamic:
            dims |= {
                axis: self.spec.patch_size * Dim(name, min=LEAST_PATCHES, max=MOST_PATCHES)
                for axis, name in ((2, "rows"), (3, "columns"))
            }
        with ExitStack() as stack:
            stack.enter_context(quiet())
            stack.enter_context(with_symbolic_sizes(self.model))
            stack.enter_context(torch.no_grad())
            try:
                program = torch.export.export(wrapped, (example,), dynamic_shapes={"inputs": dims}, strict=False)
            except Exception as error:  # of many kinds, most of them torch's own
                reason = f"{type(error).__name__}: {quote(error)}"
                raise ExportError("torch.export cannot trace this model.", [reason]) from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # with paths of this machine, which would be in every file
        return program


def prepare(out: Conversion, model: nn.Module, normalization: Normalization | None = None) -> Traced:
    """A converted model, to be exported: for images of any size where it, and transformers' code, take them alike."""
    spec = out.spec
    is_dynamic = spec.any_size and not spec.branches_on_size and not out.baked
    return Traced(model, spec, select_stages(load_family(out.family).list_stages(spec)), is_dynamic, normalization)


class _Returning(nn.Module):
    """A model that returns what passes some of its capture points, by name."""

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        outputs: Mapping[str, str],
        normalization: Normalization | None,
    ) -> None:
        super().__init__()
        self.model = model
        self._stages, self._outputs, self._normalization = stages, dict(outputs), normalization

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        pixel_values = self._normalization.apply(inputs) if self._normalization else inputs
        with ExitStack() as stack:
            for stage in self._stages:
                stack.enter_context(reading_at(self.model, stage, "hf", partial(_keep, kept)))
            result = self.model(pixel_values=pixel_values)
        for stage in self._stages:
            for point in stage.points:
                place = read_place(point.hf)
                if not place.module:
                    kept[point.name] = place.take(result)
        return {output: kept[point] for output, point in self._outputs.items()}


def _keep(kept: dict[str, Tensor], name: str, value: Any) -> None:
    if name != ARGUMENTS:
        kept[name] = value


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' hints to themselves: what matters of a graph is judged afterwards.

    pytest listens to torch's log of all that a trace does, and shows it under a test that fails.
    """
    before, trace = logging.root.manager.disable, logging.getLogger("torch.__trace")
    others = [handler for handler in trace.handlers if not type(handler).__module__.startswith("torch.")]
    logging.disable(logging.WARNING)
    for handler in others:
        trace.removeHandler(handler)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for handler in others:
            trace.addHandler(handler)
        logging.disable(before)
