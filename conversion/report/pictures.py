"""What two models make of the same photo, drawn: pure functions from tensors to pictures."""

import base64
import io
import math
from collections.abc import Callable, Mapping

import torch
from PIL import Image, ImageOps
from torch import Tensor

from conversion.report.records import Picture

MOST_LIKELY = 5
NOTHING, SOME, MUCH = "#0b1d3a", "#2a9d8f", "#ffe08a"
"""Colours of a scale, told apart without red and green."""


def show_pixels(original: Tensor, converted: Tensor) -> Picture:
    """What the models are given, ``(3, H, W)`` each: by the original transform, and by the image processor."""
    low, high = float(original.min()), float(original.max())

    def draw(values: Tensor) -> str:
        return _encode((values - low) / (high - low))

    differing = float((original != converted).float().mean())
    text = f"{differing:.2%} of the values differ." if differing else "Every value is the same."
    return Picture("Pixels, after preprocessing", _compare(original, converted, draw), text)


def show_components(original: Tensor, converted: Tensor) -> Picture:
    """Patch tokens, ``(rows, columns, D)`` each, as the first three principal components of the original's."""
    tokens = original.flatten(0, 1)  # (N, D)
    mean = tokens.mean(dim=0)
    *_, directions = torch.linalg.svd(tokens - mean, full_matrices=False)
    directions = directions[:3].T  # (D, 3)
    low, high = ((tokens - mean) @ directions).aminmax(dim=0)

    def project(values: Tensor) -> Tensor:
        projected: Tensor = ((values - mean) @ directions - low) / (high - low)
        return projected.permute(2, 0, 1)  # (3, rows, columns)

    panels = _compare(project(original), project(converted), _encode)
    text = "Red, green and blue are the original's principal components."
    return Picture("Patch tokens of the last block", panels, text)


def show_attention(original: Tensor, converted: Tensor, head: int) -> Picture:
    """What the CLS token looks at, ``(rows, columns)`` each."""
    largest = float(original.max())
    panels = _compare(original, converted, lambda values: _encode(values / largest))
    text = f"Head {head} of the last block, by content alone: softmax(q k / sqrt(d)), without a bias of positions."
    return Picture("Attention of the CLS token", panels, text)


def show_classes(original: Tensor, converted: Tensor, labels: Mapping[int, str]) -> Picture:
    """The most likely classes by logits, ``(num_classes,)`` each."""
    rows: list[tuple[str, ...]] = [("place", "original", "share", "converted", "share")]
    ranked = [logits.softmax(dim=-1).topk(min(MOST_LIKELY, logits.numel())) for logits in (original, converted)]
    for place, pairs in enumerate(zip(*(zip(*found, strict=True) for found in ranked), strict=True), start=1):
        named = ((labels.get(int(index), str(int(index))), f"{float(share):.4%}") for share, index in pairs)
        rows.append((str(place), *(text for pair in named for text in pair)))
    is_same = bool((ranked[0].indices == ranked[1].indices).all())
    text = "The same, in the same order." if is_same else "Not the same, or not in the same order."
    return Picture("Most likely classes", {}, text, tuple(rows))


def show_segments(original: Tensor, converted: Tensor) -> Picture:
    """The most likely class of every pixel by logits, ``(num_classes, rows, columns)`` each."""
    segments = [logits.argmax(dim=0) for logits in (original, converted)]
    panels = {name: _encode(_colour(found)) for name, found in zip(("original", "converted"), segments, strict=True)}
    differing = segments[0] != segments[1]
    panels["difference"] = _encode(differing.float())
    classes = len(segments[0].unique())
    text = f"{classes} of {original.shape[0]} classes; {int(differing.sum()):,} of {differing.numel():,} places differ."
    return Picture("Segments", panels, text)


def show_depth(original: Tensor, converted: Tensor) -> Picture:
    """Depth, ``(rows, columns)`` each."""
    low, high = float(original.min()), float(original.max())
    panels = _compare(original, converted, lambda values: _encode((values - low) / ((high - low) or 1.0)))
    return Picture("Depth", panels, f"From {low:.3g}, the darkest, to {high:.3g}, the brightest.")


def attend(query: Tensor, key: Tensor, num_heads: int, head: int, grid: tuple[int, int]) -> Tensor:
    """What the CLS token looks at among the patches, which come last: ``(T, D)`` each, to ``(rows, columns)``."""
    query, key = (tokens.unflatten(-1, (num_heads, -1))[:, head] for tokens in (query, key))  # (T, D/H)
    shares = (key @ query[0] * query.shape[-1] ** -0.5).softmax(dim=0)  # (T,)
    patches: Tensor = shares[-grid[0] * grid[1] :]
    return patches.view(grid)


def _compare(original: Tensor, converted: Tensor, draw: Callable[[Tensor], str]) -> dict[str, str]:
    """Both, and how far they are apart: the farthest is the brightest."""
    difference = (converted - original).abs()
    largest = float(difference.max())
    if difference.dim() == 3:
        difference = difference.amax(dim=0)
    caption = f"difference, up to {largest:.1e}" if largest else "difference: none"
    if not math.isfinite(largest):
        caption, difference, largest = "difference: not all are numbers", torch.isfinite(difference).logical_not(), 1.0
    return {
        "original": draw(original),
        "converted": draw(converted),
        caption: _encode(difference / largest if largest else difference),
    }


def _colour(segments: Tensor) -> Tensor:
    """Class numbers ``(rows, columns)`` to colours ``(3, rows, columns)``, neighbours far apart."""
    hue = segments * 0.618034 % 1.0
    phases = torch.tensor([0.0, 1 / 3, 2 / 3]).view(3, 1, 1)
    return 0.55 + 0.4 * torch.cos(2 * torch.pi * (hue - phases))


def _encode(values: Tensor) -> str:
    """Values from 0 to 1, ``(3, rows, columns)`` or ``(rows, columns)``, as PNG in base64."""
    levels = (values.detach().float().cpu().nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    if levels.dim() == 2:
        image = ImageOps.colorize(Image.fromarray(levels.numpy()), NOTHING, MUCH, mid=SOME)
    else:
        image = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
