"""The inputs that every variant is verified on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from conversion.families.base import Spec
from conversion.families.images import RGB
from conversion.intake.synthetic import seed_generator
from conversion.parity.points import Inputs

PHOTO = Path(__file__).with_name("chelsea.png")
MASKED_SHARE = 0.4

FEW_PATCHES = 49
"""The most that an image of few patches has: as many as batch_2 and masked have, of a model that takes any size."""

OF_FEW = ("native", "batch_2", "masked", "non_square")
"""Inputs that a second attention implementation is verified on, where they have few patches."""

USUAL = 224
"""Side in pixels of the images that most image processors make."""

SIDE_BY_SIDE = 2**19
"""Pixels of the inputs that are verified together: all of a DINOv2's, 463 thousand; of segmentation models, which take
512 x 512 only, and whose maps in float64 take much memory, two images."""


@dataclass(frozen=True)
class InputCase:
    """One input.

    Attributes:
        height, width: in pixels.
        baked: image size that position embeddings are baked for, in an artifact of its own; None: the artifact itself.
        photo: the picture beside this file, through image processor and original transform, in place of noise.
        channels: of the images.
    """

    name: str
    height: int
    width: int
    batch: int = 1
    masked: bool = False
    baked: int | None = None
    photo: bool = False
    channels: int = RGB

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixel values."""
        return self.batch, self.channels, self.height, self.width

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.batch * self.height * self.width


def list_inputs(spec: Spec, input_size: int, baked: int | None) -> list[InputCase]:
    """The inputs for a model of this spec.

    The native size runs once, with one image; what needs several images, masks or another aspect ratio runs with few
    patches, through the same code. A model that takes its native size only has every input at that size. All but
    those called baked go through the artifact itself. The photo has three channels, and is for models of such images.

    Args:
        spec: of the artifact.
        input_size: side of the images that its image processor gives, in pixels.
        baked: the size that the artifact itself is baked for, if it is; then it is used at no other.
    """
    height, width = spec.shape_input(input_size)
    native, small, wide = spec.image_size, 7 * spec.patch_size, (4 * spec.patch_size, 7 * spec.patch_size)
    if baked or not spec.any_size:
        small = native
    # images of other sizes are brought to USUAL; those of a model that keeps their aspect ratio are not
    usual = small if spec.keeps_aspect else USUAL
    at_usual, baked_for_usual = f"{usual}", f"{usual}_baked"
    cases = [
        InputCase("native", native, native),
        InputCase("batch_2", small, small, batch=2),
        InputCase("masked", small, small, batch=2, masked=True),
        InputCase("non_square", *wide),
        InputCase("photo", height, width, photo=True),
        InputCase("photo_size", height, width),
        InputCase(at_usual, usual, usual),
        InputCase(baked_for_usual, usual, usual, baked=usual),
    ]
    channels = getattr(spec, "num_channels", RGB)
    redundant = {at_usual, baked_for_usual} if native == usual or usual % spec.patch_size else set()
    if baked:
        redundant |= {at_usual, "non_square", *(("photo", "photo_size") if spec.keeps_aspect else ())}
    if not spec.any_size:
        redundant |= {at_usual, baked_for_usual, "non_square"}
    redundant |= {at_usual} if spec.keeps_aspect else {"photo_size"}  # each is a size at which people run the model
    if not spec.takes_masks:
        redundant |= {"masked"}
    if channels != RGB:
        redundant |= {"photo"}
    return [replace(case, channels=channels) for case in cases if case.name not in redundant]


def select_few(cases: Sequence[InputCase], patch_size: int) -> list[InputCase]:
    """Select the inputs of few patches; the one of several images, if a model has none of few patches.

    They are enough for a second attention implementation. Its code is the same for any number of patches, and the
    first one has proven the rest of the model on every input.
    """
    pixels = FEW_PATCHES * patch_size**2
    few = [case for case in cases if case.name in OF_FEW and case.height * case.width <= pixels]
    return few or [case for case in cases if case.batch > 1 and not case.masked]


def group_inputs(cases: Sequence[InputCase]) -> list[list[InputCase]]:
    """Inputs, in their order, in groups that are verified side by side: each as large as memory allows, or one."""
    groups: list[list[InputCase]] = []
    for case in cases:
        if not groups or sum(each.pixels for each in [*groups[-1], case]) > SIDE_BY_SIDE:
            groups.append([])
        groups[-1].append(case)
    return groups


def draw_inputs(case: InputCase, patch_size: int, seed: int) -> Inputs:
    """Noise ``(batch, channels, height, width)`` and, where masked, ``(batch, N)`` with some of the patches masked."""
    generator = seed_generator(f"{seed}/{case.batch}x{case.height}x{case.width}")
    pixel_values = torch.randn(case.shape, generator=generator)
    if not case.masked:
        return Inputs(pixel_values)
    num_patches = (case.height // patch_size) * (case.width // patch_size)
    return Inputs(pixel_values, torch.rand(case.batch, num_patches, generator=generator) < MASKED_SHARE)


def open_photo(spec: Spec | None = None) -> Image.Image:
    """The photo, RGB; of the size that a model of this spec asks for."""
    photo = Image.open(PHOTO).convert("RGB")
    return photo.resize(spec.photo_size) if spec is not None and spec.photo_size else photo


def as_batch(pixel_values: Tensor) -> Inputs:
    """One image ``(3, height, width)`` as a batch."""
    return Inputs(pixel_values.unsqueeze(0))
