"""What a known deviation of the target library is.

A deviation is a fact about transformers, not about a conversion. Where one applies, the comparison must agree once the
original computes as transformers does. Each family keeps a ledger of its own, and each entry says where it applies; the
tests show that each is still there, and fail when one is gone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Deviation:
    """One entry of a ledger.

    Attributes:
        name: as it appears in reports.
        where: under which condition, for a reader.
        cause: what transformers does otherwise.
        size: how much, measured.
        counterfactual: what makes it vanish, for a reader.
        remedy: what the artifact does about it, or its user can do.
        original_attributes: the counterfactual for a machine: attribute of the original model to the value that
            makes it compute as transformers does. Empty where the cause is not in the model.
        avoided: whether the artifact is written such that it does not show.
        after_model: whether it lies in what is done with the model's output, which is not compared.
        is_rounding: whether it comes to no more than that sums are taken in another order.
        in_config: whether a transformers config brings it about for an original of this spec; an artifact with such
            a config is refused.
        applies: whether it shows for a spec, an input's shape ``(B, channels, height, width)``, a dtype and an
            attention implementation, both by name.
        applies_to_image: whether it shows for a spec, an image's (width, height), and the side in pixels of what the
            image processor makes of it.
    """

    name: str
    where: str
    cause: str
    size: str
    counterfactual: str
    remedy: str
    original_attributes: Mapping[str, object] = field(default_factory=dict)
    avoided: bool = False
    after_model: bool = False
    is_rounding: bool = False
    in_config: Callable[[Any, Any], bool] = field(default=lambda _config, _spec: False, compare=False)
    applies: Callable[[Any, tuple[int, ...], str, str], bool] = field(default=lambda *_: False, compare=False)
    applies_to_image: Callable[[Any, tuple[int, int], int], bool] = field(default=lambda *_: False, compare=False)


def split_names(names: str | None) -> list[str]:
    """The single names in that of a deviation, which may be several combined; none of None or an empty text."""
    return names.split(SEPARATOR) if names else []


def combine(*deviations: Deviation | None) -> Deviation | None:
    """Those of several deviations that apply, as one: its counterfactual is all of theirs; None where none applies."""
    applying = [deviation for deviation in deviations if deviation is not None]
    if len(applying) < 2:
        return next(iter(applying), None)
    attributes = {name: value for deviation in applying for name, value in deviation.original_attributes.items()}
    names = SEPARATOR.join(deviation.name for deviation in applying)
    return replace(applying[0], name=names, original_attributes=attributes)


SEPARATOR = ", "
"""Between the names of deviations that apply together."""
