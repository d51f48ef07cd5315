"""What the authors' training writes: where a checkpoint holds the model, and what its tensors are like."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from conversion.families.distributions import Draw


@dataclass(frozen=True)
class Training:
    """What the authors' training of a family writes.

    Attributes:
        choose_container: the entry of a checkpoint file that holds a model of a spec, and what lies beside it; an empty
            name if the file is the state dict itself.
        distributions: how synthetic tensors are drawn, pattern of the key to distribution, before the common ones.
        default_entries: of a checkpoint with several models of this family, the entries to take first, in this order;
            none where the common order holds.
    """

    choose_container: Callable[[Any], tuple[str, Mapping[str, object]]] = lambda _spec: ("", {})
    distributions: Mapping[str, Draw] = field(default_factory=dict)
    default_entries: tuple[str, ...] = ()

    def choose_entry(self, spec: Any) -> str:
        """Choose the entry of a checkpoint file that holds the model; empty if the file is the state dict itself."""
        return self.choose_container(spec)[0]

    def pack(self, spec: Any, state_dict: Mapping[str, Tensor]) -> Mapping[str, object]:
        """Build the content of a checkpoint file."""
        entry, beside = self.choose_container(spec)
        return {entry: state_dict, **beside} if entry else state_dict
