"""DINOv2: what a state dict in the original's names may be without, and zeros stand for."""

from collections.abc import Mapping

from torch import Tensor


def fill(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Put zeros for the mask token of a model with registers, which transformers always has, and say so.

    Without masked patches no output depends on it.

    Returns:
        the state dict, and what was done, in a line; empty where nothing was.
    """
    registers = state_dict.get("register_tokens")
    if "mask_token" in state_dict or registers is None or registers.ndim != 3:
        return dict(state_dict), ""
    filled = {**state_dict, "mask_token": registers.new_zeros(1, registers.shape[-1])}
    return filled, "there is no mask token: zeros stand for it, masked patches mean nothing"
