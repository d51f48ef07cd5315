"""The table that GitHub Actions shows in the summary of a job, in Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conversion.parity.verdict import Verdict
from conversion.suite.summary import gather_deviations
from conversion.suite.workflow_commands import shorten

LIMIT = 1024 * 1024
"""Bytes of a step's summary that GitHub takes. It shows none of a larger one."""

NOTE = 200
"""Bytes that are kept for the note on what is left out."""

SHOWN = 10
"""Variants whose failure is described: GitHub shows as many annotations of a step."""

FAILED, NOT_RUN = str(Verdict.FAILED), "not run"
COLUMNS = ("variant", "device", "dtype", "attention", "verdict", "error ratio", "worst point", "seconds",
           "transformers does otherwise", "artifact")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A cell of the matrix, or a model as a whole, with what came of it.

    Attributes:
        verdict: exact, close or failed; or, in words, what is claimed in its place, or that it was not run.
        error_ratio: the largest error, as a multiple of the original's own.
        otherwise: what transformers does otherwise: its name, to the inputs that show it.
        artifact: where it was kept.
        message: why it failed.
        file: that an annotation is shown at.
    """

    variant: str
    device: str = ""
    dtype: str = ""
    attention: str = ""
    verdict: str = FAILED
    error_ratio: float | None = None
    worst_point: str = ""
    seconds: float | None = None
    otherwise: Mapping[str, Sequence[str]] = field(default_factory=dict)
    artifact: str = ""
    message: str = ""
    file: str = ""


def list_rows(
    variant: str, cells: Iterable[Any], otherwise: Iterable[Any], message: str, *, artifact: str = "", file: str = ""
) -> list[Row]:
    """The rows of a command's answer.

    Args:
        cells: of the matrix, with device, dtype, attention, verdict and error_ratio.
        otherwise: what transformers does otherwise, each with a name.
        message: why it is not the same model; empty if it is. Where no cell has failed, it has a row of its own.
    """
    whole = Row(variant, otherwise={each.name: () for each in otherwise}, artifact=artifact, file=file)
    rows = [
        replace(
            whole,
            device=cell.device,
            dtype=cell.dtype,
            attention=cell.attention,
            verdict=str(cell.verdict),
            error_ratio=cell.error_ratio,
            message=message if cell.verdict == FAILED else "",
        )
        for cell in cells
    ]
    is_told = not message or any(row.verdict == FAILED for row in rows)
    return rows if is_told else [replace(whole, message=message), *rows]


def write_summary(rows: Sequence[Row], room: int) -> str:
    """The table, what transformers does otherwise and why variants failed, in Markdown.

    Args:
        room: bytes that are left. Rows that do not fit are left out, failed ones last; and it is said how many.
    """
    rows = sorted(rows, key=lambda row: row.verdict != FAILED)
    columns = [column for column in COLUMNS if any(list_cells(row)[column] for row in rows)]
    head = "\n".join(["", describe_counts(rows), "", write_line(columns), write_line(["---"] * len(columns)), ""])
    tail = "\n".join(["", *list_otherwise(rows), *list_failures(rows), ""])
    if count_bytes(head + tail) + NOTE > room:
        tail = ""
    written, left = [], room - count_bytes(head + tail) - NOTE
    for row in rows:
        line = write_line([list_cells(row)[column] for column in columns]) + "\n"
        left -= count_bytes(line)
        if left < 0:
            break
        written.append(line)
    if not written:
        return ""
    rest = len(rows) - len(written)
    note = f"\n{rest} more rows are left out: GitHub takes 1 MiB of summary a step.\n" if rest else ""
    return head + "".join(written) + note + tail


def describe_counts(rows: Sequence[Row]) -> str:
    """How many models, and how many of them failed, as a heading."""
    models, failed, not_run = (
        len({row.variant for row in rows if row.verdict in verdicts})
        for verdicts in ({row.verdict for row in rows}, {FAILED}, {NOT_RUN})
    )
    counted = f"{models} model{'s' if models > 1 else ''}"
    found = f"{failed} of {counted} failed" if failed else f"{counted}, none failed"
    return f"### Parity: {found}" + (f", {not_run} not or not wholly run" if not_run else "")


def list_cells(row: Row) -> dict[str, str]:
    """Column to content."""
    return {
        "variant": row.variant,
        "device": row.device,
        "dtype": row.dtype,
        "attention": row.attention,
        "verdict": f"**{row.verdict}**" if row.verdict == FAILED else row.verdict,
        "error ratio": "" if row.error_ratio is None else f"{row.error_ratio:.2f}",
        "worst point": row.worst_point,
        "seconds": "" if row.seconds is None else f"{row.seconds:.1f}",
        "transformers does otherwise": ", ".join(row.otherwise),
        "artifact": row.artifact,
    }


def write_line(cells: Iterable[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def escape_markdown(text: str) -> str:
    """Escape what would end a cell of a table, or would be taken for HTML."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def list_otherwise(rows: Sequence[Row]) -> Iterator[str]:
    """What transformers does otherwise, each with its cause and the inputs that show it."""
    gathered = gather_deviations(row.otherwise for row in rows)
    if gathered:
        yield "What transformers does otherwise, with any weights:\n"
    for name, (cause, inputs) in gathered.items():
        where = f" ({', '.join(inputs)})" if inputs else ""
        yield f"- {name}{where}: {escape_markdown(cause)}"


def list_failures(rows: Sequence[Row]) -> Iterator[str]:
    """Why variants failed, each as code; of as many as have annotations."""
    messages = {row.variant: row.message for row in reversed(rows) if row.verdict == FAILED and row.message}
    for variant in [name for name in dict.fromkeys(row.variant for row in rows) if name in messages][:SHOWN]:
        code = "\n".join(f"    {line}" for line in shorten(messages[variant]).splitlines())
        yield f"\nWhy {escape_markdown(variant)} failed:\n\n{code}"


def count_bytes(text: str) -> int:
    """Bytes of a text in a file."""
    return len(text.encode())
