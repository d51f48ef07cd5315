"""What GitHub Actions shows of a run: a table in the summary of the job, and an annotation for each failed variant.

The table's place is told by GitHub's documentation: "Workflow commands for GitHub Actions".
"""

import os
from collections.abc import Sequence
from pathlib import Path

from conversion.suite.job_summary import FAILED, LIMIT, SHOWN, Row, write_summary
from conversion.suite.workflow_commands import SUMMARY, format_command, is_annotated, shorten


def report(rows: Sequence[Row]) -> list[str]:
    """Append the table to the summary, and say what is to be written.

    Returns:
        lines: annotations, and what went wrong with the summary.
    """
    lines = list_annotations(rows) if is_annotated() else []
    path = os.environ.get(SUMMARY)
    if not path or not rows:
        return lines
    try:
        has = Path(path).stat().st_size if Path(path).exists() else 0
        summary = write_summary(rows, LIMIT - has)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary)
    except OSError as error:
        return [*lines, f"{SUMMARY}: {path}: the table cannot be appended: {error.strerror or error}"]
    return lines if summary else [*lines, f"{SUMMARY}: the summary of this step is full: it has no table of this run."]


def list_annotations(rows: Sequence[Row]) -> list[str]:
    """A workflow command for each variant that failed, as many as are shown; and one that says which others did."""
    failed: dict[str, Row] = {}
    for row in rows:
        if row.verdict == FAILED:
            failed.setdefault(row.variant, row)
    lines = [annotate(row) for row in list(failed.values())[:SHOWN]]
    if rest := list(failed)[SHOWN:]:
        message = f"{len(rest)} more failed, of which GitHub shows no annotations: {', '.join(rest)}"
        lines.append(format_command("notice", message, title="More variants failed"))
    return lines


def annotate(row: Row) -> str:
    """The workflow command for a row that failed."""
    place = ", ".join(filter(None, (row.device, row.dtype, row.attention)))
    title = f"{row.variant} failed" + (f" ({place})" if place else "")
    message = shorten(row.message) or "It is not shown to be the same model."
    return format_command("error", message, file=row.file, title=title)
