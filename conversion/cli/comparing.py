"""``vision-parity compare``: is this folder, or this repository on the Hub, that checkpoint?"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conversion.artifact.answer import Judged, Otherwise, describe_cell, list_otherwise
from conversion.artifact.card import record_cell
from conversion.artifact.checks import check_settings
from conversion.artifact.differences import list_tensor_differences
from conversion.artifact.settings import list_sizes
from conversion.cli.answer import describe_failures
from conversion.errors import CheckpointError, ConversionError
from conversion.families.base import load_family
from conversion.families.told import describe_told
from conversion.intake.checkpoint import is_transformers_folder
from conversion.state_dicts.convert import Conversion
from conversion.suite.axes import check_axes, choose_variants, prepare_torch
from conversion.suite.cells import verify_cell
from conversion.suite.compared import ComparedSubject
from conversion.suite.progress import silence_loading
from conversion.suite.settings import Request

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ["*.json", "*.safetensors"]
"""What is looked at of a repository: weights that have to be unpickled are not fetched."""


@dataclass(frozen=True)
class Comparison:
    """What a folder is, beside a checkpoint.

    Attributes:
        tensors, settings: each difference, in a line.
        conversion: with each attention implementation; none where the folder does not load.
        otherwise: what transformers does otherwise, with any weights.
        failure: where activations first differ, in full; or why they were not compared.
    """

    original: str
    target: str
    variant: str
    tensors: tuple[str, ...]
    settings: tuple[str, ...]
    conversion: tuple[Judged, ...]
    otherwise: tuple[Otherwise, ...]
    notes: tuple[str, ...]
    failure: str

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.tensors or self.settings or self.failure)


def compare(request: Request, target: str) -> Comparison:
    """Compare a folder with a checkpoint: tensors, settings, activations; all differences at once.

    Args:
        target: a folder that ``from_pretrained`` reads, or a repository on the Hub.

    Raises:
        ConversionError: the checkpoint cannot be converted, or there is no such folder: nothing can be compared.
    """
    prepare_torch(0, 1)
    silence_loading()
    folder = find_folder(target)
    _, _, attentions = check_axes(None, None, None)
    cells = [("cpu", "float32", attention) for attention in attentions]
    subject = ComparedSubject(next(iter(choose_variants(request))), request, cells=cells, folder=folder)
    try:
        out = subject.converted
        tensors = _collect(lambda: list_tensor_differences(out, folder))
        settings = _collect(lambda: _check_settings(out, folder))
        verdicts, failure = [], ""
        try:
            with warnings.catch_warnings(action="ignore"):  # what is missing is among the tensors
                verdicts = [verify_cell(subject, cell) for cell in cells]
        except ConversionError as error:
            failure = f"Activations were not compared: {error}"
        failure = failure or describe_failures(subject.variant, verdicts)
        records = [record_cell(cell) for cell in verdicts]
        return Comparison(
            original=str(request.checkpoint),
            target=target,
            variant=subject.variant,
            tensors=tuple(tensors),
            settings=tuple(settings),
            conversion=tuple(map(describe_cell, records)),
            # beside a fault it cannot be told how much of a difference is whose
            otherwise=() if failure else tuple(list_otherwise(subject.family, out.spec, out.input_size, records)),
            notes=(*describe_told(out.told, "you"), *out.notes),
            failure=failure,
        )
    finally:
        subject.close()


def find_folder(target: str) -> Path:
    """The folder itself, or a copy of a repository's files from the Hub, in the cache of ``huggingface_hub``.

    Raises:
        CheckpointError: there is no such folder, it holds no model of a known family, or the Hub has no such one.
    """
    folder = Path(target).expanduser()
    if not folder.exists() and REPOSITORY.fullmatch(target):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(target, allow_patterns=FILES))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            hint = "Check its name, and the network; or download it, and give the folder."
            raise CheckpointError(f"{target}: cannot be had from the Hub.", said[:1], hint) from error
    if not folder.is_dir():
        raise CheckpointError(f"{target}: there is no such folder.", hint="Check its path.")
    if not is_transformers_folder(folder):
        raise CheckpointError(f"{target}: holds no model of a known family in transformers' layout.")
    return folder


def _check_settings(out: Conversion, folder: Path) -> list[str]:
    check_settings(out, folder, sizes=list_sizes(load_family(out.family), out.spec))
    return []


def _collect(look: Callable[[], list[str]]) -> list[str]:
    """What is found; or, where that is raised, the problems."""
    try:
        return look()
    except ConversionError as error:
        return list(error.problems) or [error.headline]
