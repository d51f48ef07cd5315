"""Where a model carries nothing but zeros because its weights are zero there: pruned, or not yet trained."""

from fnmatch import fnmatchcase

from torch import nn

from conversion.parity.points import CapturePoint, read_place


def find_zero_source(model: nn.Module, point: CapturePoint) -> str | None:
    """The key of a tensor of the original that enters at a capture point with nothing but zeros; None if none does.

    Of a fused projection, of which the point is a part, that part counts.
    """
    place = read_place(point.original)
    for key, tensor in model.named_parameters():
        if any(fnmatchcase(key, source) for source in point.sources) and tensor.dim():
            rows = tensor.shape[0]
            is_cut = place.parts > 1 and rows % place.parts == 0 and key.startswith(f"{place.module}.")
            part = tensor.chunk(place.parts)[place.part] if is_cut else tensor
            if part.is_floating_point() and not part.any():
                return key
    return None
