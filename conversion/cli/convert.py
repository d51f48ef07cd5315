"""``vision-parity convert``: a checkpoint, converted, verified and saved."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from conversion.cli.answer import Outcome, build_outcome
from conversion.cli.reporting import report_on
from conversion.errors import CheckpointError, VariantError
from conversion.families.base import Spec
from conversion.families.labels import read_labels
from conversion.families.variants import VARIANTS, find_variant
from conversion.intake.transformers_folder import find_main_file, is_transformers_folder
from conversion.report.render import check_place
from conversion.state_dicts.folder import PARITY_CARD
from conversion.suite.axes import (
    DTYPES,
    check_axes,
    check_image_size,
    check_selected,
    measure_memory,
    read_variants,
)
from conversion.suite.cells import verify_cell
from conversion.suite.progress import show_steps, silence_loading
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from conversion.suite.threads import prepare_torch

ARTIFACTS = Path("artifacts")
"""Where a model is written whose place is not said, under its own name."""


def build_request(
    source: str,
    *,
    variant: str | None = None,
    labels: Path | None = None,
    weights: str = "pretrained",
    save_dtype: str | None = None,
    **options: Any,
) -> Request:
    """What is asked for, as the suite takes it.

    Args:
        source: a path, or the name of an official variant where there is no such file.
        variant: the official one that the file is said to be of.
        options: as :class:`Request` has them.

    Raises:
        CheckpointError: there is no such file, or two options do not go together.
        VariantError: there is no such variant either; the nearest are named.
    """
    if weights not in ("pretrained", "synthetic"):
        raise CheckpointError(f"--weights {weights}: neither pretrained nor synthetic.")
    if save_dtype is not None and save_dtype not in DTYPES:
        raise CheckpointError(f"--save-dtype {save_dtype}: not one of {', '.join(DTYPES)}.")
    if options.get("report"):
        check_place(options["report"], "--report")
    known = {
        "labels": read_labels(labels) if labels else None,
        "save_dtype": getattr(torch, save_dtype) if save_dtype else None,
        "variant": find_variant(variant).name if variant else None,
        **options,
    }
    path = Path(source).expanduser()
    if path.exists() or source not in VARIANTS:
        if not path.exists() and not any(sign in source for sign in "./*["):
            try:
                find_variant(source)  # which names the nearest
            except VariantError as error:
                headline = f"{source}: there is no such file or folder, and no such official variant."
                raise VariantError(headline, error.problems, error.hint) from None
        if weights != "pretrained":
            rename = f"Rename {path}, which has the name of an official variant."
            headline = f"{source}: --weights {weights} is for an official variant; this is a file or folder."
            raise CheckpointError(headline, hint=rename if source in VARIANTS else f"Leave --weights {weights} out.")
        if is_transformers_folder(path) and find_main_file(path):
            folder = shlex.quote(str(path))
            check = f"verify {folder}" if (path / PARITY_CARD).exists() else f"compare ORIGINAL {folder}"
            hint = f"To check it: vision-parity {check}. To convert it anew: vision-parity restore {folder} FILE."
            raise CheckpointError(f"{path}: is converted already; the original checkpoint is needed.", hint=hint)
        return Request(checkpoint=path, **known)
    return Request(keyword=source, weights=weights, **known)


def choose_name(request: Request, specs: Mapping[str, Spec]) -> str:
    """The variant that is converted.

    Args:
        specs: of what can be had.

    Raises:
        CheckpointError: it is an official one, of which no weights are published.
    """
    name = request.keyword or next(iter(specs))
    if name not in specs:
        hint = "Give a checkpoint of your own, or --weights synthetic."
        raise CheckpointError(f"{name}: no official weights are published.", hint=hint)
    return name


def convert_and_verify(request: Request, device: str, dtype: str) -> Outcome:
    """Convert, verify with every attention implementation, and save what is the same model.

    Raises:
        ConversionError: it cannot be converted, or not be saved. Nothing is left half written.
    """
    prepare_torch(0, 1)
    silence_loading()
    specs, read = read_variants(request)
    name = choose_name(request, specs)
    request = replace(request, artifacts=ARTIFACTS)
    chosen = {name: specs[name]}
    check_image_size(request.image_size, chosen)
    devices, dtypes, attentions = check_axes([device], [dtype], None)
    check_selected(request.image_size, chosen, attentions, measure_memory())
    cells = [(devices[0], dtypes[0], attention) for attention in attentions]
    subject = Subject(name, request, cells=cells, given=read)
    try:
        with show_steps():
            verdicts = tuple(verify_cell(subject, cell) for cell in cells)
            unwritten = report_on(subject, verdicts, request.report)
            outcome = replace(build_outcome(subject, verdicts), unwritten=unwritten)
        if outcome.is_same:
            outcome = replace(outcome, replaced=subject.staged.publish(subject.provenance, verdicts))
        return outcome
    finally:
        subject.close()
