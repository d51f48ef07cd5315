"""What the original computes from one input: in the dtype of a comparison, in float64, and with other roundings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from conversion.parity.capture import ForwardPass, copy_structure
from conversion.parity.metrics import Distance, error_of
from conversion.parity.points import Inputs, Stage
from conversion.parity.precision import Casts, convolve_by_places
from conversion.parity.readers import Reader, Shared
from conversion.parity.roundings import run_otherwise
from conversion.parity.verdict import Yardstick


@dataclass
class OriginalRun:
    """What the original computes from one input.

    Attributes:
        dtype: that the comparison is made in, whatever dtype the weights are kept in.
        attributes: of the original model, to the values that they are to have (the counterfactual of a deviation).
        share: several comparisons read it side by side, at the same stage; it is computed once for all of them. Else
            each computes it again.
        casts: of the weights, for runs side by side.
    """

    original: nn.Module
    stages: Sequence[Stage]
    inputs: Inputs
    dtype: torch.dtype
    attributes: Mapping[str, object] = field(default_factory=dict)
    share: bool = False
    casts: Casts = field(default_factory=Casts, repr=False)
    _shared: list[Shared] = field(default_factory=list, init=False, repr=False)
    _others: dict[tuple[str, int], Mapping[str, Distance]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def model(self) -> nn.Module:
        """The original with those attributes."""
        if not self.attributes:
            return self.original
        model = copy_structure(self.original)
        for name, value in self.attributes.items():
            if not hasattr(model, name):
                raise AttributeError(f"the original has no attribute {name!r}")
            setattr(model, name, value)
        return model

    def side_by_side(self) -> "OriginalRun":
        """The same, for comparisons that read it side by side."""
        return replace(self, share=True)

    def read_expected(self) -> Reader:
        """The original in the dtype of the comparison."""
        return self._shared_expected if self.share else self._run_expected()

    def read_precise(self) -> Reader:
        """The original in float64, from the inputs as the comparison's dtype has them.

        For a comparison in float64, which has nothing more precise to be held against, it is the original in float32.
        """
        return self._shared_precise if self.share else self._run_precise()

    def forget(self) -> None:
        """Free what was computed in the latest stage, when all that read it side by side have done so."""
        for reader in self._shared:
            reader.forget()

    def build_yardstick(self, expected: Tensor, precise: Tensor) -> Yardstick:
        """What decides at a capture point whether a difference is rounding.

        In float64 the original's own error is taken to be that of float32, times the ratio of their unit roundoffs,
        to which rounding errors are proportional where both sum in the same order. Convolutions need not: a sum of
        2,304 products errs by 11 unit roundoffs in float64, by 3.5 in float32. :meth:`measure_other` knows better.
        """
        if self.dtype != torch.float64:
            return Yardstick(precise, error_of(expected, precise))
        scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        error = error_of(precise, expected)
        return Yardstick(expected, Distance(error.max_abs * scale, error.rms * scale))

    def measure_other(
        self, seed: int, stage: Stage, expected: Mapping[str, Tensor], precise: Mapping[str, Tensor]
    ) -> Mapping[str, Distance]:
        """The original's errors in a stage when it is run once more, with other roundings: capture point to error.

        The pass is run from the start and ended behind the stage, since few ask; its figures are kept.

        Args:
            seed: which roundings.
            expected, precise: what the original has there in the dtype of the comparison, and in the other.
        """
        if (stage.name, seed) not in self._others:
            held = self._list_known(stage, expected, precise)
            self._others |= {(name, seed): errors for name, errors in self._measure_otherwise(seed, held)}
        return self._others[stage.name, seed]

    def _list_known(
        self, stage: Stage, expected: Mapping[str, Tensor], precise: Mapping[str, Tensor]
    ) -> Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]:
        """What the original has in the stages that one pass with other roundings measures: in this one alone."""
        return {stage.name: (expected, precise)}

    def _measure_otherwise(
        self, seed: int, held: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
    ) -> Iterator[tuple[str, Mapping[str, Distance]]]:
        """Errors in the stages of these names, in one pass with other roundings."""
        inputs, asked = self.inputs.to("cpu", self.dtype), [stage for stage in self.stages if stage.name in held]
        passing = run_otherwise(self.model, seed, self.stages, asked, inputs, self.dtype, self.casts)
        for stage, values in zip(asked, passing, strict=True):
            # in float64 the original itself is what a converted model is held against
            reference = held[stage.name][0 if self.dtype == torch.float64 else 1]
            floating = {name: value for name, value in values.items() if value.is_floating_point()}
            yield stage.name, {name: error_of(value, reference[name]) for name, value in floating.items()}

    @property
    def other_dtype(self) -> torch.dtype:
        """Of the yardstick."""
        return torch.float32 if self.dtype == torch.float64 else torch.float64

    def _run_expected(self) -> ForwardPass:
        return ForwardPass(copy_structure(self.model), self.stages, "original", self.inputs, self.dtype, self.casts)

    def _run_precise(self) -> ForwardPass:
        model, inputs = copy_structure(self.model), self.inputs.to("cpu", self.dtype)
        if self.other_dtype == torch.float64:
            convolve_by_places(model)
        return ForwardPass(model, self.stages, "original", inputs, self.other_dtype, self.casts)

    @cached_property
    def _shared_expected(self) -> Reader:
        return self._share(self._run_expected())

    @cached_property
    def _shared_precise(self) -> Reader:
        return self._share(self._run_precise())

    def _share(self, run: ForwardPass) -> Reader:
        self._shared.append(Shared(run))
        return self._shared[-1]
