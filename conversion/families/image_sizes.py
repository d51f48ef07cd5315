"""Which square images position embeddings can be baked for."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from conversion.errors import CheckpointError

MAX_TOKENS = 2**16
"""Patches of an image, at most.

Attention compares every token with every other: one map of one head takes ``4 * tokens ** 2`` bytes in float32, at this
bound 16 GiB, more than the memory of most machines. The official models were trained with at most 1,369 patches.
"""


def find_size_problem(spec: Any, image_size: object) -> str | None:
    """Find why position embeddings cannot be baked for square images of this side, and what can; None if they can."""
    patch = spec.patch_size
    if not isinstance(image_size, int) or isinstance(image_size, bool) or image_size < 1:
        return f"not a whole number of pixels from 1 up; give a multiple of the patch size {patch}"
    if not spec.any_size and image_size != spec.image_size and hasattr(spec, "interpolate_offset"):
        return (
            "nothing tells how it resamples position embeddings; give --interpolate-offset and --interpolate-antialias"
        )
    if not spec.any_size and image_size != spec.image_size:
        return f"the model is made for {spec.image_size}, and knows positions of that size alone; leave the size out"
    grid, rest = divmod(image_size, patch)
    if rest:
        near = max(grid, 1) * patch
        return f"it is not a multiple of the patch size {patch}; nearest: {near} or {near + patch}"
    if grid**2 > MAX_TOKENS:
        gigabytes = 4 * grid**4 / 2**30
        most = int(MAX_TOKENS**0.5) * patch
        return f"{grid**2:,} patches, of which one head's attention takes {gigabytes:,.0f} GiB; give at most {most}"
    return None


def refuse_other_size(state_dict: Mapping[str, Tensor], spec: Any, image_size: int) -> tuple[dict[str, Tensor], Any]:
    """Bake the native size, which changes nothing.

    Raises:
        CheckpointError: another one was asked for.
    """
    if image_size != spec.image_size:
        headline = f"An image size of {image_size} cannot be baked: the model is made for {spec.image_size}."
        raise CheckpointError(headline, hint="Leave the image size out.")
    return dict(state_dict), spec


def check_image_size(spec: Any, image_size: object) -> None:
    """Refuse an image size that cannot be baked, before anything is made.

    Raises:
        CheckpointError: with the size and the way out.
    """
    _refuse(find_size_problem(spec, image_size), f"An image size of {image_size} cannot be baked")


def check_input_size(spec: Any, input_size: int) -> None:
    """Refuse a size for the image processor that the model cannot be given.

    Raises:
        CheckpointError: with the size and the way out.
    """
    _refuse(find_size_problem(spec, input_size), f"An input size of {input_size} cannot be used")


def check_sizes_agree(image_size: int | None, input_size: int | str | None) -> None:
    """Refuse another size for the image processor than the one that is baked; None is not given.

    Raises:
        CheckpointError: with both sizes and the way out.
    """
    if image_size is not None and input_size is not None and str(input_size).strip() != str(image_size):
        headline = f"Images of a model that is baked for {image_size} pixels have that size, not {input_size}."
        raise CheckpointError(headline, hint="Leave the image size or the input size out (--image-size, --input-size).")


def _refuse(problem: str | None, headline: str) -> None:
    if problem:
        what, _, hint = problem.rpartition("; ")
        raise CheckpointError(f"{headline}: {what}.", hint=f"{hint[0].upper()}{hint[1:]}.")
