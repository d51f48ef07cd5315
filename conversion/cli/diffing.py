"""``vision-parity diff``: what changed between two runs, written for people, as Markdown or as JSON."""

import json
from pathlib import Path

import typer

from conversion.cli.options import NOT_THE_SAME, SAME
from conversion.report.baseline import write_baseline
from conversion.report.diff import as_plain, compare_runs, read_side
from conversion.report.diff_text import write_lines, write_markdown


def show_diff(baseline: Path, new: Path, *, as_json: bool, as_markdown: bool, write: Path | None) -> int:
    """Compare two runs, say what changed, and put the new one on record if that was asked for; the status.

    Raises:
        ArtifactError: one of them cannot be read, there is nothing to compare, or the file cannot be written.
    """
    cells = read_side(new)
    diff = compare_runs(read_side(baseline), cells)
    written, dropped = write_baseline(write, cells) if write else ((), ())
    if as_json:
        typer.echo(json.dumps(as_plain(diff), indent=1))
    else:
        typer.echo(write_markdown(diff) if as_markdown else "\n".join(write_lines(diff)))
    if write:
        kinds = ", ".join(sorted({cell.processor for cell in written}))
        left = f"; {len(dropped)} that were on record were not run, and are no longer" if dropped else ""
        typer.echo(f"{write}: {len(written)} cells on {kinds}{left}", err=True)
    return NOT_THE_SAME if diff.changes else SAME
