"""The page: records, brought into rows and drawings, in a template."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from conversion.artifact.answer import describe_judged, describe_off
from conversion.artifact.card import list_cells
from conversion.artifact.files import write_whole
from conversion.artifact.sizes import describe_sizes
from conversion.errors import ArtifactError
from conversion.exports.asked import NOT_AS_ASKED
from conversion.parity.verdict import Verdict
from conversion.report import charts
from conversion.report.headlines import Headlines, write_headlines
from conversion.report.matrix import Model, build_matrix, describe_versions
from conversion.report.place import HEAD
from conversion.report.records import Record
from conversion.report.tables import (
    POINT_COLUMNS,
    count_points,
    format_size,
    list_charts,
    list_files,
    list_keys,
    list_points,
    summarise,
)

FOLDER = Path(__file__).parent
KILL_MATRIX = FOLDER / "kill_matrix.json"
"""What would have been noticed; ``python -m tests.mutation.kill_matrix`` writes it."""

SYMBOLS = {Verdict.EXACT: "=", Verdict.CLOSE: "≈", Verdict.LOSSY: "~", Verdict.FAILED: "✗"}
"""A verdict is never told by colour alone."""

MEANINGS = {
    Verdict.EXACT: "Every bit is the same, at every capture point.",
    Verdict.CLOSE: "Not every bit is the same. Held against the original in float64, the error is at most twice the "
    "original's own rounding error. It is the same model.",
    Verdict.LOSSY: "An export that is less precise than the original, by a known amount.",
    Verdict.FAILED: "It is not shown to be the same model.",
}

WHOLE = re.compile(r"([\d.]+e-\d+|--[\w-]+)")
"""Figures and options, as they stand in a text."""


def write_report(record: Record, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        ArtifactError: there is no room for it, or it may not be written there.
    """
    page = render_report(record, datetime.now(UTC))
    with explain_writing(path):
        write_whole(path, page)


@contextmanager
def explain_writing(path: Path) -> Iterator[None]:
    """Say of a file that could not be written which it is, and the way out.

    Raises:
        ArtifactError: in the place of what the system says.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ArtifactError(f"{path}: cannot be written: {why}. Free some space, or write it elsewhere.") from error


def render_report(record: Record, now: datetime) -> str:
    """The page: a single file, which loads nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": format_size,
        "symbol": SYMBOLS.__getitem__,
        "anchor": _anchor,
        "breakable": _make_breakable,
        "whole": _keep_whole,
    }
    columns, models = build_matrix(record.results)
    headlines = {model.anchor: write_headlines(model) for model in models}
    return HEAD + environment.get_template("report.html.jinja").render(
        style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        script=Markup((FOLDER / "report.js").read_text(encoding="utf-8")),
        title=write_title(models, headlines),
        headlines=headlines,
        commands=record.commands,
        columns=columns,
        models=models,
        counts=count_verdicts(models),
        is_timed=any(result.seconds for result in record.results),  # verification cards do not tell
        meanings=MEANINGS,
        versions=sorted({describe_versions(result.card) for result in record.results if result.card}),
        now=now,
        charts=charts,
        line_names=charts.LINE_NAMES,
        point_columns=POINT_COLUMNS,
        kill_matrix=json.loads(KILL_MATRIX.read_text(encoding="utf-8")),
        count_points=count_points,
        describe_judged=describe_judged,
        not_as_asked=NOT_AS_ASKED,
        list_cells=list_cells,
        describe_off=describe_off,
        describe_sizes=describe_sizes,
        list_charts=list_charts,
        list_files=list_files,
        list_keys=list_keys,
        list_points=list_points,
        summarise=summarise,
    )


def write_title(models: Sequence[Model], headlines: Mapping[str, Headlines]) -> str:
    """What the page says in a line: of a failure, its cause, if all that failed have the same."""
    failed = [model for model in models if model.verdict is Verdict.FAILED]
    causes = {headlines[model.anchor].cause for model in failed}
    cause = f": {causes.pop()}" if len(causes) == 1 else ""
    if len(models) == 1:
        (model,) = models
        said = headlines[model.anchor]
        if said.refused:
            return f"{model.variant} is {said.claim}, but {NOT_AS_ASKED}"
        return f"{model.variant} failed{cause}" if failed else f"{model.variant} is {said.claim}"
    if failed:
        return f"{len(failed)} of {len(models)} models failed{cause}"
    return f"{len(models)} models, each the same as its original"


def describe_counts(record: Record) -> str:
    """How many models came to which verdict, in a line."""
    _, models = build_matrix(record.results)
    counts = count_verdicts(models)
    total = "1 model" if len(models) == 1 else f"{len(models)} models"
    return ", ".join([total, *(f"{count} {verdict}" for verdict, count in counts.items())])


def count_verdicts(models: Iterable[Model]) -> dict[Verdict, int]:
    """How many models came to each, of those that any came to."""
    counts = Counter(model.verdict for model in models)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


def _anchor(model: Model, index: int) -> str:
    """Of one of a model's cells."""
    return f"{model.anchor}-{index}"


def _make_breakable(name: str) -> Markup:
    """A name that a narrow column may break at an underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _keep_whole(text: str) -> Markup:
    """A text in which no line ends within a figure, or within an option of the command line."""
    span = Markup('<span class="whole">{}</span>')
    return Markup("").join(span.format(part) if WHOLE.fullmatch(part) else part for part in WHOLE.split(text))
