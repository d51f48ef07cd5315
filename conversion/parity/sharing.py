"""Models with the same weights hold each tensor once."""

from torch import Tensor, nn

from conversion.parity.alignment import ALIGNMENT
from conversion.parity.metrics import is_bit_equal

FIRST = 8
"""Elements that tell most tensors of one shape apart, before all of them are compared."""

Held = dict[tuple[object, ...], list[nn.Parameter]]


def share_tensors(model: nn.Module, held: Held) -> nn.Module:
    """Replace each parameter by one of an earlier model, where every bit is the same, and return the model.

    Products may round by where a weight lies (:mod:`conversion.parity.alignment`), so one is not taken for another that
    is aligned otherwise. Only what lies in the host's memory is looked at.

    Args:
        held: parameters of the models before; the others of this model are put in.
    """
    for module in model.modules():
        for name, own in list(module.named_parameters(recurse=False)):
            if own.device.type != "cpu":
                continue
            alike = held.setdefault(_describe(own), [])
            earlier = next((each for each in alike if is_bit_equal(each, own)), None)
            if earlier is None:
                alike.append(own)
            else:
                setattr(module, name, earlier)
    return model


def _describe(tensor: Tensor) -> tuple[object, ...]:
    place = tensor.data_ptr() % ALIGNMENT
    return tensor.shape, tensor.stride(), tensor.dtype, place, tuple(tensor.flatten()[:FIRST].tolist())
