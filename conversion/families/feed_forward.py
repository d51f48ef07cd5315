"""How wide a feed-forward is, as its tensors have it and as ``mlp_ratio`` of transformers' DINOv2 says it."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain

from conversion.errors import CheckpointError
from conversion.mapping.key_map import Shapes

ITS_OWN_CODE = "Use the model with the code that trained it."


def reckon_swiglu_width(width: int) -> int:
    """Width of a gated feed-forward's hidden layer: two thirds of a plain one's, rounded up to a multiple of 8."""
    return (int(width * 2 / 3) + 7) // 8 * 8


def find_mlp_ratio(shapes: Shapes, embed_dim: int) -> int:
    """The ratio of a plain feed-forward.

    Raises:
        CheckpointError: it is not a whole number, or there is no feed-forward.
    """
    hidden = _find_width(shapes, (".mlp.fc1.weight", 0), (".mlp.fc1.bias", 0), (".mlp.fc2.weight", 1))
    if hidden % embed_dim:
        raise _explain_ratio(f"{hidden} wide, {hidden / embed_dim:g} times the {embed_dim} of the tokens")
    return hidden // embed_dim


def find_swiglu_ratio(shapes: Shapes, embed_dim: int) -> int:
    """The ratio of which a gated feed-forward has its share; the usual one where several give the same width.

    Raises:
        CheckpointError: no whole number gives this width.
    """
    hidden = _find_width(shapes, (".mlp.w3.weight", 1))
    most = 3 * hidden // (2 * embed_dim) + 1
    least = max(1, most - 12 // embed_dim - 2)  # rounded up by less than 8, which are 12 of a plain one
    for ratio in chain((4,), range(least, most + 1)):
        if reckon_swiglu_width(ratio * embed_dim) == hidden:
            return ratio
    usual = reckon_swiglu_width(4 * embed_dim)
    raise _explain_ratio(
        f"gated and {hidden} wide, which a ratio of {1.5 * hidden / embed_dim:.4g} gives; 4 is {usual}"
    )


def _find_width(shapes: Shapes, *axes: tuple[str, int]) -> int:
    """The hidden width that most of the tensors have; those that differ are found out afterwards."""
    widths = Counter(
        shape[axis]
        for key, shape in shapes.items()
        for ending, axis in axes
        if key.endswith(ending) and len(shape) > axis and shape[axis]
    )
    if not widths:
        looked_for = _join(ending for ending, _ in axes)
        problems = [f"missing in every block: {looked_for} (a training's config calls this ffn_layer: identity)"]
        headline = "This model has no feed-forward; transformers' model always has one."
        raise CheckpointError(headline, problems, ITS_OWN_CODE)
    return widths.most_common(1)[0][0]


def _join(endings: Iterable[str]) -> str:
    return ", ".join(f"*{ending}" for ending in endings)


def _explain_ratio(found: str) -> CheckpointError:
    headline = f"Its feed-forward is {found}: transformers 5 takes only whole ratios (mlp_ratio)."
    return CheckpointError(headline, hint=ITS_OWN_CODE)
