"""``vision-parity compare``: is this folder, or this repository on the Hub, that checkpoint?"""

import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conversion.artifact.answer import Answer, build_answer
from conversion.artifact.card import MatrixVerdict, build_parity_card
from conversion.artifact.checks import check_settings
from conversion.artifact.differences import (
    ROUNDED,
    find_rounding_of_all,
    list_left_out_differences,
    list_tensor_differences,
)
from conversion.artifact.repository import describe_error
from conversion.artifact.settings import list_sizes
from conversion.cli.answer import describe_failures
from conversion.cli.convert import choose_name
from conversion.cli.reporting import report_on
from conversion.cli.target import find_target
from conversion.errors import ConversionError
from conversion.families.base import load_family
from conversion.families.settings import option_of
from conversion.families.told import write_value
from conversion.parity.diagnosis import drop_unexplained
from conversion.state_dicts.convert import UNNAMED, Conversion
from conversion.state_dicts.folder import PREPROCESSOR
from conversion.suite.axes import check_axes, read_variants
from conversion.suite.cells import verify_cell
from conversion.suite.compared import ComparedSubject
from conversion.suite.memory import resume_collection
from conversion.suite.progress import show_steps, silence_loading
from conversion.suite.settings import Request
from conversion.suite.threads import prepare_torch


@dataclass(frozen=True)
class Comparison:
    """What a folder is, beside a checkpoint.

    Attributes:
        origin: of a repository: which commit was compared; else empty.
        tensors, settings: each difference, in a line.
        answer: to what activations came, as the answer of a conversion has it; of no cell where the folder does not
            load.
        skipped: inputs and files that were not compared, with the reason, each in a line.
        obstacle: why activations were not compared.
        failure: where activations first differ, in full.
        unwritten: why the report that was asked for is not there, as the outcome of a conversion has it.
        command: what to run where it is not the same, with what was told of the original.
        rounding: the dtype that all tensors are rounded to, if they are and nothing else differs; the command then
            compares with the checkpoint rounded alike.
    """

    original: str
    target: str
    origin: str
    variant: str
    tensors: tuple[str, ...]
    settings: tuple[str, ...]
    answer: Answer
    skipped: tuple[str, ...]
    obstacle: str
    failure: str
    command: str
    rounding: str | None = None
    unwritten: str = ""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.tensors or self.settings or self.obstacle or self.failure)

    @property
    def message(self) -> str:
        """All that differs."""
        return "\n".join(filter(None, [self.obstacle, self.failure, *self.tensors, *self.settings]))

    @property
    def is_rounded(self) -> bool:
        """Whether its tensors are the original's with less precision, and nothing else differs in files."""
        return bool(self.tensors) and not self.settings and all(ROUNDED in line for line in self.tensors)


def compare(request: Request, target: str, revision: str | None = None) -> Comparison:
    """Compare a folder with a checkpoint: tensors, settings, activations; all differences at once.

    Args:
        target: a folder that ``from_pretrained`` reads, or a repository on the Hub.
        revision: of the repository.

    Raises:
        ConversionError: the checkpoint cannot be converted, there is no such folder, or its tensors cannot be read:
            nothing can be compared.
    """
    prepare_torch(0, 1)
    silence_loading()
    # the checkpoint first: the repository may take long to fetch
    specs, read = read_variants(request)
    variant = choose_name(request, specs)
    found = find_target(target, revision)
    _, _, attentions = check_axes(None, None, None)
    cells = [("cpu", "float32", attention) for attention in attentions]
    subject = ComparedSubject(variant, request, cells=cells, given=read, folder=found.folder)
    resume_collection()
    try:
        return _compare_all(subject, target, found.origin, revision)
    finally:
        subject.close()


def _compare_all(subject: ComparedSubject, target: str, origin: str, revision: str | None) -> Comparison:
    """Compare tensors, then settings, then activations, and put together what differs."""
    request, out, folder = subject.request, subject.converted, subject.folder
    tensors = [*list_tensor_differences(out, folder), *list_left_out_differences(out, folder)]
    names = subject.told_labels
    settings = _list_setting_problems(out, folder, names)
    verdicts, obstacle = _compare_activations(subject, are_tensors_told=bool(tensors))
    failure = describe_failures(subject.variant, verdicts, most=1)
    if tensors or settings:  # what else is known of the difference stands there
        failure = drop_unexplained(failure)
    with show_steps():
        differences = filter(None, [*tensors, *settings, obstacle])
        unwritten = report_on(subject, verdicts, request.report, differences, target)
    card = build_parity_card(out, subject.provenance, tuple(verdicts), {})
    answer = build_answer(card, "you")
    notes = [note for note in answer.notes if note != UNNAMED]
    if out.spec.num_classes and not names:
        notes.append("class names were not compared: the checkpoint does not tell them")
    answer = replace(answer, notes=tuple(notes))
    if obstacle or failure:  # beside a fault it cannot be told how much of a difference is whose
        answer = replace(answer, otherwise=())
    rounding = None if settings else find_rounding_of_all(tensors)
    return Comparison(
        original=str(request.checkpoint or request.keyword),
        target=target,
        origin=origin,
        variant=subject.variant,
        tensors=tuple(tensors),
        settings=tuple(settings),
        answer=answer,
        skipped=tuple(_list_skipped(subject)),
        obstacle=obstacle,
        failure=failure,
        unwritten=unwritten,
        command=write_command(request, target, revision, rounding),
        rounding=rounding,
    )


def _compare_activations(subject: ComparedSubject, *, are_tensors_told: bool) -> tuple[list[MatrixVerdict], str]:
    """The verdict on each cell; or why there is none."""
    try:
        with show_steps(), warnings.catch_warnings(action="ignore"):  # what is missing is among the tensors
            return [verify_cell(subject, cell) for cell in subject.cells], ""
    except ConversionError as error:
        return [], f"not compared: {error.headline if are_tensors_told else error}"
    except Exception as error:  # a model with other settings than it needs may fail anywhere
        return [], f"not compared: {describe_error(error)}"


def _list_skipped(subject: ComparedSubject) -> Iterator[str]:
    if (subject.folder / PREPROCESSOR).exists():
        if not subject.converted.preprocessor:
            yield f"{PREPROCESSOR}: not compared, since nothing tells how images are made that are not RGB"
    else:
        yield f"photo: not compared, since there is no {PREPROCESSOR}; nothing says how images are made"
    if not subject.has_mask_token:
        yield "masked: not compared, since the model in the folder is built without a mask token"


def write_command(request: Request, target: str = "", revision: str | None = None, rounding: str | None = None) -> str:
    """Write the command that converts the checkpoint of a request, with what it says of it.

    Args:
        rounding: a dtype; the command compares the target with the checkpoint rounded to that instead.
    """
    options = {
        "linear-head": request.linear_head,
        "linear-head-entry": request.linear_head_entry,
        "depth-head": request.depth_head,
        "entry": request.entry,
        "like": request.like,
        "variant": request.variant,
        "save-dtype": rounding or request.save_dtype,
    }
    given = {f"--{name}": str(value) for name, value in options.items() if value is not None}
    given |= {option_of(name): write_value(value) for name, value in request.overrides.items()}
    words = (word for pair in given.items() for word in pair)
    command, paths = "convert", [str(request.checkpoint or request.keyword)]
    if rounding:
        command, paths = "compare", [*paths, target, *(["--revision", revision] if revision else [])]
    return shlex.join(["vision-parity", command, *paths, *words])


def _list_setting_problems(out: Conversion, folder: Path, labels: Sequence[str]) -> list[str]:
    try:
        check_settings(out, folder, labels=labels, sizes=list_sizes(load_family(out.family), out.spec))
    except ConversionError as error:
        return list(error.problems) or [error.headline]
    return []
