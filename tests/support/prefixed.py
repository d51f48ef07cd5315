"""State dicts with a whole model under a prefix of their keys, beside other modules; and another model of its make."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.support.golden import read_golden, tiny


def put_under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under a prefix."""
    return {prefix + key: tensor for key, tensor in tensors.items()}


def shift(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another model of the same make."""
    return {key: tensor + 1 for key, tensor in tensors.items()}


HEAD = {"depth_net.projects.0.weight": torch.ones(4, 32, 1, 1), "depth_net.projects.0.bias": torch.ones(4)}
"""What some depth network has beside its backbone."""

TRACKING = {"camera_head.weight": torch.ones(2, 2), "aggregator.camera_token": torch.ones(1, 2, 1, 32)}
"""What VGGT has beside its."""

CLASSIFIER = {"model.classifier.weight": torch.ones(7, 32), "model.classifier.bias": torch.ones(7)}
"""What a Lightning module of this kind has beside its."""

PREFIXED: dict[str, Callable[[], dict[str, Any]]] = {
    "a depth network": lambda: put_under("pretrained.", tiny()) | HEAD,
    "VGGT": lambda: TRACKING | put_under("aggregator.patch_embed.", read_golden("dinov2_tiny_reg").backbone),
    "a Lightning module": lambda: {"state_dict": put_under("model.backbone.", tiny()) | CLASSIFIER, "epoch": 3},
    "an average of one": lambda: (
        put_under("module.", put_under("model.backbone.", tiny()) | CLASSIFIER) | {"n_averaged": torch.tensor(3)}
    ),
    "one that was compiled": lambda: put_under("_orig_mod.", put_under("vit._orig_mod.", tiny()) | HEAD),
    "blocks in chunks": lambda: put_under("pretrained.", read_golden("dinov2_tiny_chunked").recorded) | HEAD,
    "nothing beside it": lambda: put_under("vit.trunk.", tiny()),
}
"""Who leaves such a state dict, and what makes one; which prefix is taken stands in ``test_entries.py``."""
