"""``vision-parity inspect``: what a checkpoint holds, what would be done with it, and what has to be told."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import conversion
from conversion.errors import ConversionError
from conversion.families.base import load_family
from conversion.families.heads import HEADS
from conversion.families.told import describe_told
from conversion.state_dicts.convert import Conversion
from conversion.suite.reading import list_own_files, read_files, take_heads
from conversion.suite.settings import Request


@dataclass(frozen=True)
class Findings:
    """What a checkpoint holds.

    Attributes:
        steps: what is done to get at the state dict in it.
        model: what it is, as far as its tensors tell.
        told: the settings that they do not tell, and on whose word each is taken.
        dropped: what has no part in the converted model, by reason.
        notes: what its user must know.
        obstacle: why it cannot be converted, with the way out; empty if it can.
    """

    path: str
    steps: tuple[str, ...]
    model: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    obstacle: str = ""


def inspect_checkpoint(request: Request) -> Findings:
    """Read a checkpoint and recognise it; nothing is run, nothing is written.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = str(request.checkpoint)
    with warnings.catch_warnings(action="ignore"):  # what they say is among the steps
        read = read_files(request, list_own_files(request), request.entry)
        checkpoint = read["checkpoint"]
        steps = tuple(f"{step.name}: {step.did}" for step in checkpoint.steps)
        steps += tuple(
            f"{step.name} of the {head.described}: {step.did}"
            for role, head in HEADS.items()
            if role in read
            for step in read[role].steps
        )
        tensors = checkpoint.state_dict.values()
        count = sum(tensor.numel() for tensor in tensors)
        steps += (f"{len(tensors)} tensors, {count / 1e6:,.1f} million numbers",)
        try:
            out = conversion.convert(checkpoint.state_dict, request.variant, **take_heads(read), **request.overrides)
        except ConversionError as error:
            return Findings(path, steps, obstacle=str(error))
    return Findings(
        path,
        steps,
        tuple(describe_model(out)),
        tuple(describe_told(out.told, "you")),
        tuple(f"{reason}: {count} tensors" for reason, count in Counter(out.dropped.values()).items()),
        out.notes,
    )


def describe_model(out: Conversion) -> Iterator[str]:
    """What a model is, a line each."""
    yield f"{out.variant}, of the family {out.family}"
    yield f"it becomes {out.architecture} of transformers"
    spec = out.spec
    yield f"{spec.depth} blocks of width {spec.embed_dim}, {spec.num_heads} heads; patches of {spec.patch_size} pixels"
    native, made = spec.image_size, load_family(out.family).images.tell_result(spec, out.input_size)
    processor = f"its image processor {made}" if out.preprocessor else "it gets no image processor"
    yield f"native size {native} x {native} pixels; {processor}"
    if spec.num_classes:
        yield f"{spec.num_classes} classes"
