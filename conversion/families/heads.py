"""Heads that are published in files of their own: where their tensors go in the one state dict that is converted."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from conversion.families.linear_head import HEAD_PREFIX
from conversion.families.settings import option_of


@dataclass(frozen=True)
class SeparateHead:
    """A head in a file of its own, beside its backbone's.

    Attributes:
        role: of its file; also the name of the option and the argument that give it.
        prefix: of its keys in the state dict of both.
        own_prefix: of its keys in its file.
        entry: of its file that holds them; empty if they are the file's own.
        backbone_prefix: of the backbone's keys in the state dict of both.
    """

    role: str
    prefix: str
    own_prefix: str = ""
    entry: str = ""
    backbone_prefix: str = ""

    @property
    def described(self) -> str:
        """What it is, in words."""
        return self.role.replace("_", " ")

    @property
    def hint(self) -> str:
        """How it is given."""
        return f"give {self.role} ({option_of(self.role)})"

    def join(self, backbone: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of both."""
        of_head = {self.prefix + key.removeprefix(self.prefix): tensor for key, tensor in head.items()}
        return {**{self.backbone_prefix + key: tensor for key, tensor in backbone.items()}, **of_head}

    def split(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The inverse of :meth:`join`: the state dicts of the backbone's file and of the head's."""
        backbone, head = dict[str, Tensor](), dict[str, Tensor]()
        for key, tensor in state_dict.items():
            if key.startswith(self.prefix):
                head[self.own_prefix + key.removeprefix(self.prefix)] = tensor
            else:
                backbone[key.removeprefix(self.backbone_prefix)] = tensor
        return backbone, head

    def pack(self, head: Mapping[str, Tensor]) -> Mapping[str, object]:
        """The content of the head's file."""
        return {self.entry: head} if self.entry else head


LINEAR_HEAD = SeparateHead("linear_head", HEAD_PREFIX)
DEPTH_HEAD = SeparateHead(
    "depth_head", "decode_head.", own_prefix="decode_head.", entry="state_dict", backbone_prefix="backbone."
)

HEADS = {head.role: head for head in (LINEAR_HEAD, DEPTH_HEAD)}
"""By role."""
