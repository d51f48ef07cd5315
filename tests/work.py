"""How much work the proof of a variant is: what takes longest is begun first, and tells how long is left."""

from conversion.family import load_family
from conversion.variants import VARIANTS


def estimate_work(name: str) -> tuple[bool, int]:
    """What a variant takes beside others: whether it is slow, and its parameters, roughly. Any other model is small."""
    variant = VARIANTS.get(name)
    if variant is None:
        return False, 0
    spec = load_family(variant.family).spec_of(variant)
    return variant.slow, spec.depth * spec.embed_dim**2
