"""The photo through both models of a variant, for pictures."""

import torch

from conversion.parity.capture import capture
from conversion.parity.points import Inputs, Side
from conversion.report import pictures
from conversion.report.records import Picture
from conversion.suite.cells import draw_photo
from conversion.suite.subject import Cell, Subject

HEAD = 0

DEPTH = "returned.predicted_depth"
"""The capture point that has the depth."""


def take_what_can_be(subject: Subject, cell: Cell) -> tuple[Picture, ...]:
    """The pictures of a variant; or, where they cannot be taken, why not."""
    try:
        return take_pictures(subject, cell)
    except Exception as error:  # of models whose shapes differ, say: not their verdict
        return (Picture("No pictures", {}, f"They could not be taken: {error!r}"),)


def take_pictures(subject: Subject, cell: Cell) -> tuple[Picture, ...]:
    """What there is to see of a variant; nothing where no photo is among its inputs.

    Both models are given what the image processor makes of it, or all would show the preprocessing's deviation.
    """
    case = next((case for case in subject.inputs if case.photo), None)
    if case is None:
        return ()
    device, dtype, attention = cell
    spec, family = subject.converted.spec, subject.family
    models = {"original": subject.original(device), "hf": subject.load(None, device, dtype, attention)}
    processed = Inputs(subject.processed_photo)
    block = f"block.{spec.depth - 1}"
    wanted = [stage for stage in family.list_stages(spec) if stage.name in (block, "logits", DEPTH)]
    sides: tuple[Side, ...] = ("original", "hf")
    found = {side: capture(models[side], wanted, side, processed, getattr(torch, dtype)) for side in sides}
    seen = {side: {name: tensor[0].cpu() for name, tensor in values.items()} for side, values in found.items()}
    grid = (case.height // spec.patch_size, case.width // spec.patch_size)

    def both(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return seen["original"][name].double(), seen["hf"][name].double()

    patches = [tokens[-grid[0] * grid[1] :].unflatten(0, grid) for tokens in both(block)]
    looks = zip(both(f"{block}.q"), both(f"{block}.k"), strict=True)
    original, converted = (pictures.attend(query, key, spec.num_heads, HEAD, grid) for query, key in looks)
    taken = [
        pictures.show_pixels(draw_photo(subject, case).pixel_values[0], processed.pixel_values[0]),
        pictures.show_components(*patches),
        pictures.show_attention(original, converted, HEAD),
    ]
    if spec.task == "image-classification":
        taken.append(pictures.show_classes(*both("logits"), dict(enumerate(subject.converted.labels))))
    if spec.task == "semantic-segmentation":
        taken.append(pictures.show_segments(*both("logits")))
    if spec.task == "depth-estimation":
        taken.append(pictures.show_depth(*both(DEPTH)))
    return tuple(taken)
