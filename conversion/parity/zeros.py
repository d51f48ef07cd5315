"""Where a model carries nothing but zeros because its weights are zero there: pruned, or not yet trained."""

from fnmatch import fnmatchcase

from torch import nn

from conversion.parity.points import CapturePoint, read_tap


def find_zero_source(model: nn.Module, point: CapturePoint) -> str | None:
    """The key of a tensor of the original that enters at a capture point with nothing but zeros; None if none does.

    Of a fused projection, of which the point is a part, that part counts.
    """
    tap = read_tap(point.original)
    for key, tensor in model.named_parameters():
        if any(fnmatchcase(key, source) for source in point.sources) and tensor.dim():
            rows = tensor.shape[0]
            is_cut = tap.parts > 1 and rows % tap.parts == 0 and key.startswith(f"{tap.module}.")
            part = tensor.chunk(tap.parts)[tap.part] if is_cut else tensor
            if part.is_floating_point() and not part.any():
                return key
    return None
