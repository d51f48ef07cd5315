"""The ledger: every known deviation of the target library, with its cause and the counterfactual that removes it.

A deviation is a fact about transformers, not about a conversion. Where an entry applies, the comparison must agree
once the original computes as transformers does. ``tests/test_deviations.py`` shows that each is still there, and fails
when one is gone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Deviation:
    """One entry of the ledger.

    Attributes:
        name: as it appears in reports.
        families: whose models are concerned.
        where: under which condition, for a reader.
        cause: what transformers does otherwise.
        size: how much, measured.
        counterfactual: what makes it vanish, for a reader.
        original_attributes: the counterfactual for a machine: attribute of the original model to the value that
            makes it compute as transformers does. Empty where the cause is not in the model.
        remedy: what the artifact, or its user, can do.
    """

    name: str
    families: tuple[str, ...]
    where: str
    cause: str
    size: str
    counterfactual: str
    remedy: str
    original_attributes: Mapping[str, object] = field(default_factory=dict)


POSITION_EMBEDDINGS = Deviation(
    name="position-embeddings-offset",
    families=("dinov2",),
    where="models without registers, at every image size but the native one",
    cause="the original resamples position embeddings with scale_factor=(n + 0.1) / M, transformers with size=n",
    size="at 224, on last hidden states: CLS 3e-3 to 3e-2, patches 5e-2 to 1.5e-1; up to 0.6 on tiny models",
    counterfactual="the original with interpolate_offset=0",
    remedy="bake the original's resampling for one square size with --image-size",
    original_attributes={"interpolate_offset": 0.0},
)

IMAGE_PROCESSOR_BACKEND = Deviation(
    name="image-processor-backend",
    families=("dinov2",),
    where="the image processor that transformers 5 loads by default",
    cause="it resizes with torchvision's kernel on tensors, the original with Pillow's",
    size="one grey level (0.0175 after normalisation) on 0.4 to 0.8 % of the values",
    counterfactual="the processor's PIL backend",
    remedy='load the image processor with backend="pil" (transformers 5) or use_fast=False (4)',
)

CENTER_CROP = Deviation(
    name="center-crop-rounding",
    families=("dinov2",),
    where="images of which the crop leaves over 4n + 3 rows or columns: a quarter of all",
    cause="torchvision rounds half the surplus to the nearest even number, transformers down, with either backend",
    size="the crop is shifted by one pixel",
    counterfactual="the original transform with half the surplus rounded down",
    remedy="crop with torchvision's center_crop beforehand, and load the image processor with do_center_crop=False",
)

LEDGER = (POSITION_EMBEDDINGS, IMAGE_PROCESSOR_BACKEND, CENTER_CROP)


@contextmanager
def counterfactual(deviation: Deviation, original: nn.Module) -> Iterator[None]:
    """Let the original compute as transformers does, for as long as the context lasts."""
    before = {name: getattr(original, name) for name in deviation.original_attributes}
    for name, value in deviation.original_attributes.items():
        setattr(original, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(original, name, value)
