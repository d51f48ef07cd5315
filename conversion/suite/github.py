"""What GitHub Actions shows of a run: a table in the summary of the job, and an annotation for each failed variant.

The formats are those of GitHub's documentation: "Workflow commands for GitHub Actions".
"""

import os
from collections.abc import Sequence
from pathlib import Path

from conversion.suite.job_summary import FAILED, LIMIT, SHOWN, Row, shorten, write_summary

SUMMARY, ACTIONS = "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"
"""Environment variables: the file of the summary, and whether a run is one of GitHub Actions."""


def is_listening() -> bool:
    """Whether GitHub Actions runs this, or a file for a summary is named."""
    return bool(os.environ.get(SUMMARY)) or is_annotated()


def is_annotated() -> bool:
    """Whether what is written becomes annotations."""
    return os.environ.get(ACTIONS) == "true"


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


def annotate_error(message: str) -> list[str]:
    """The workflow command for what could not be done at all; none outside GitHub Actions."""
    return [format_command("error", shorten(message), title="vision-parity")] if is_annotated() else []


def format_command(name: str, message: str, **properties: str) -> str:
    """A workflow command: a line that GitHub reads in the log of a step. Empty properties are left out."""
    given = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items() if value)
    return f"::{name} {given}::{escape_data(message)}" if given else f"::{name}::{escape_data(message)}"


def escape_data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape a property of a workflow command, where a colon and a comma have a meaning, too."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")
