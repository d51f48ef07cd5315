"""DINOv3: what its training writes, for synthetic checkpoints: the values of its buffers."""

import torch
from torch import Generator, Tensor

from conversion.families.dinov3.original import build_bias_mask
from conversion.families.dinov3.rotary import compute_periods
from conversion.families.training import Training


def _write_periods(tensor: Tensor, _generator: Generator) -> Tensor:
    return tensor.copy_(compute_periods(100.0, len(tensor), torch.bfloat16))


def _write_mask(tensor: Tensor, _generator: Generator) -> Tensor:
    return tensor.copy_(build_bias_mask(len(tensor)))


TRAINING = Training(distributions={"rope_embed.periods": _write_periods, "*.bias_mask": _write_mask})
