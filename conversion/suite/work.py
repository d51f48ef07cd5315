"""How much work the proof of a variant is: what takes longest is begun first, and tells how long is left."""

from conversion.families.base import load_family
from conversion.families.variants import Variant
from conversion.suite.inputs import list_inputs, select_few

FIRST, SECOND = 2, 3
"""Passes that an input takes. With the first attention: the original's, and the converted model's, which is exact.

With the second: the converted model's, and the original's in float64, which counts as two.
"""


def estimate_work(variant: Variant | None, *, is_thorough: bool = False) -> int:
    """Multiplications in the proof of a variant, roughly. Any model that is no official one is small."""
    if variant is None:
        return 0
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    inputs = list_inputs(spec, family.images.choose_input_size(spec), None)
    of_second = inputs if is_thorough else select_few(inputs, spec.patch_size)
    pixels = FIRST * sum(case.pixels for case in inputs) + SECOND * sum(case.pixels for case in of_second)
    by_token = 12 * spec.depth  # of width x width: four in the attention, eight in the feed-forward
    if spec.task == "semantic-segmentation":
        by_token += 16 * 9 * (1 + len(spec.out_indices))  # 3 x 3, over maps four times as fine, of one and of all
    products = by_token * spec.embed_dim**2
    if spec.task == "depth-estimation":
        products += 16 * 9 * 8 * spec.fusion_width**2  # 3 x 3, four times over such maps, and once over twice as fine
    work: int = products * pixels // spec.patch_size**2
    return work
