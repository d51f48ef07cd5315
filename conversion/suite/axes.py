"""What the command line chooses: which variants, and which cells of the matrix."""

from collections.abc import Mapping, Sequence

import torch

from conversion.errors import CheckpointError, DeviceError, concerning
from conversion.families.base import Spec, load_family
from conversion.families.image_sizes import find_size_problem
from conversion.families.variants import VARIANTS
from conversion.intake.checkpoint import Checkpoint
from conversion.intake.transformers_folder import is_transformers_folder
from conversion.state_dicts.convert import convert
from conversion.state_dicts.heads import merge_heads
from conversion.state_dicts.recognise import recognise
from conversion.suite.contradictions import refuse_contradictions
from conversion.suite.extent import choose_row
from conversion.suite.reading import list_own_files, read_files, take_heads
from conversion.suite.settings import DTYPES, Request

ATTENTIONS = ("eager", "sdpa")


def choose_variants(request: Request) -> dict[str, Spec]:
    """The variants to verify: all official ones; or the one that a checkpoint holds, or is said to hold.

    Returns:
        name to spec.

    Raises:
        CheckpointError: the checkpoint cannot be read or recognised, or what was asked for does not go together.
    """
    return read_variants(request)[0]


def read_variants(request: Request) -> tuple[dict[str, Spec], dict[str, Checkpoint]]:
    """What :func:`choose_variants` gives, and role to checkpoint of what was read for it: that need be read once alone.

    Raises:
        CheckpointError: as there.
    """
    refuse_contradictions(request)
    if request.checkpoint is None:
        names = [row.name for row in VARIANTS.values() if row.is_published or request.weights == "synthetic"]
        rows = [row for name in names if (row := choose_row(name, request))]
        return {row.name: load_family(row.family).spec_of(row) for row in rows}, {}
    if request.variant:
        row = VARIANTS[request.variant]
        return {row.name: load_family(row.family).spec_of(row)}, {}
    read = read_files(request, list_own_files(request), request.entry)
    with concerning(request.checkpoint):
        merged = merge_heads(read["checkpoint"].state_dict, **take_heads(read))
        found = recognise(merged, **request.overrides)
        return {found.name: found.spec}, read


def check_checkpoint(request: Request, specs: Mapping[str, Spec]) -> None:
    """Convert a checkpoint that is to be verified, so that what is wrong with it is said once, before any test.

    Args:
        specs: of what was selected; nothing is checked where that is nothing.

    Raises:
        ConversionError: it cannot be converted.
    """
    if request.checkpoint is None or not specs or is_transformers_folder(request.checkpoint):
        return
    read = read_files(request, list_own_files(request), request.entry)
    with concerning(request.checkpoint):
        convert(
            read["checkpoint"].state_dict,
            request.variant,
            **take_heads(read),
            image_size=request.image_size,
            labels=request.labels,
            **request.overrides,
        )


def check_axes(
    devices: list[str] | None, dtypes: list[str] | None, attentions: list[str] | None
) -> tuple[list[str], list[str], list[str]]:
    """Fill in the defaults, and refuse what is not there; nothing that was asked for is skipped.

    Raises:
        DeviceError: a device is absent, or a dtype or attention implementation is unknown.
    """
    devices = devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    dtypes, attentions = dtypes or ["float32"], attentions or list(ATTENTIONS)
    problems = [problem for device in devices if (problem := _find_device_problem(device))]
    problems += [f"--dtype {dtype}: not one of {', '.join(DTYPES)}" for dtype in dtypes if dtype not in DTYPES]
    given = [attention for attention in attentions if attention not in ATTENTIONS]  # those are in every transformers
    problems += [problem for attention in given if (problem := _find_attention_problem(attention))]
    if problems:
        raise DeviceError("This device, dtype or attention cannot be used here.", problems)
    return devices, dtypes, attentions


def check_image_size(image_size: int | None, specs: Mapping[str, Spec]) -> None:
    """Refuse an image size that cannot be baked for any variant, before anything is made.

    Raises:
        CheckpointError: it is no multiple of any one's patch size, too large, or another than the only one.
    """
    if image_size is None or not specs:
        return
    patch_sizes = sorted({spec.patch_size for spec in specs.values()})
    if any(spec.any_size for spec in specs.values()) and all(image_size % patch_size for patch_size in patch_sizes):
        described = " or ".join(map(str, patch_sizes))
        near = sorted({max(image_size // size, 1) * size + more for size in patch_sizes for more in (0, size)})
        headline = f"--image-size {image_size}: not a multiple of the patch size {described}."
        raise CheckpointError(headline, hint=f"Nearest: {' or '.join(map(str, near))}.")
    problems = dict.fromkeys(find_size_problem(spec, image_size) for spec in specs.values())
    if None not in problems:
        raise CheckpointError(f"--image-size {image_size}: cannot be baked.", [f"{each}." for each in problems])


def check_selected(
    image_size: int | None,
    specs: Mapping[str, Spec],
    attentions: Sequence[str],
    memory: int | None,
    *,
    other_ways: str = "",
) -> None:
    """Refuse a size of images that cannot be baked, or not be run here, for one of the variants that were selected.

    A model that is made for one size has its test say so.

    Args:
        specs: of the variants; of a checkpoint, with the size that its image processor was told to make.
        memory: of this machine, in bytes; None where that is not known.
        other_ways: out, beside another size.

    Raises:
        CheckpointError: with the variants.
    """
    problems = []
    for name, spec in specs.items():
        size = image_size or spec.input_size
        if size is not None:
            problem = find_size_problem(spec, size) if spec.any_size else None
            problem = problem or _find_memory_problem(spec, size, attentions, memory)
            problems += [f"{name}, images of {size} x {size} pixels: {problem}."] if problem else []
    if problems:
        hint = f"Give another size{other_ways}."
        raise CheckpointError("Images of this size cannot be verified here.", problems, hint)


def _find_memory_problem(spec: Spec, image_size: int, attentions: Sequence[str], memory: int | None) -> str | None:
    """Why eager attention does not fit: it has a map of every head, ``(heads, tokens, tokens)``, at once."""
    size = 4 * spec.num_heads * (image_size // spec.patch_size) ** 4
    if "eager" not in attentions or memory is None or size <= memory:
        return None
    return f"eager attention takes {size / 2**30:,.0f} GiB, of {memory / 2**30:,.0f} GiB here"


def _find_device_problem(device: str) -> str | None:
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        return f"--device {device}: {str(error).splitlines()[0]}"
    return None


def _find_attention_problem(attention: str) -> str | None:
    from transformers import AutoModel, ViTConfig

    smallest = ViTConfig(hidden_size=1, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1)
    try:
        with torch.device("meta"):
            AutoModel.from_config(smallest, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        return f"--attention {attention}: {str(error).strip().splitlines()[0]}"
    return None
