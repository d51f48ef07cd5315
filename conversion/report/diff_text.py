"""What changed between two runs, in words: for a terminal, and as Markdown for an issue."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from conversion.report.diff import OTHERWISE, TEST, Change, Diff, VersionPair
from conversion.report.text import fold

SHORT = 12
"""Characters of a SHA-256 that people are shown."""

COLUMNS = ("model", "device/dtype/attention", "processor", "input", "what", "baseline", "now", "held against")


def write_lines(diff: Diff) -> Iterator[str]:
    """The lines for a terminal."""
    yield from fold(count_changes(diff))
    for heading, changes in groupby(diff.changes, _write_heading):
        yield ""
        yield from fold(heading)
        for name, of_input in groupby(changes, lambda change: change.input):
            said = "; ".join(map(_describe_change, of_input))
            yield from fold(f"{name}: {said}" if name else said, indent=2)
    for processor, versions in groupby(diff.versions, lambda pair: pair.processor):
        yield ""
        yield f"Versions, {processor}"
        yield from _write_versions(list(versions))
    counts = [*count_others(diff)]
    if counts:
        yield ""
        for line in counts:
            yield from fold(line)


def write_markdown(diff: Diff) -> str:
    """The text of an issue: a table of the changes, and one of the versions."""
    changes = [
        (
            change.model, change.place, change.processor, change.input, change.what,
            _write(change.before), _write(change.now), change.beside,
        )
        for change in diff.changes
    ]  # fmt: skip
    versions = [(pair.processor, pair.name, pair.before, pair.now) for pair in diff.versions]
    tables = [_tabulate(COLUMNS, changes), _tabulate(("processor", "version of", "baseline", "now"), versions)]
    return "\n\n".join([count_changes(diff), *filter(None, tables), *count_others(diff)])


def count_changes(diff: Diff) -> str:
    """How much changed, in a sentence."""
    many = len(diff.changes)
    number = "Nothing" if not many else "1 thing" if many == 1 else f"{many} things"
    compared = "1 cell that was" if diff.compared == 1 else f"{diff.compared} cells that were"
    return f"{number} changed in the {compared} compared."


def count_others(diff: Diff) -> Iterator[str]:
    """What was not compared, a sentence each."""
    yield from diff.others
    if diff.not_run:
        yield f"Not run: {_count_cells(diff.not_run)} of the baseline."
    if diff.added:
        yield f"Not compared: {_count_cells(diff.added)} that the baseline has no result of."


def _count_cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def _write_heading(change: Change) -> str:
    place = f" on {change.place}" if change.place else ""
    beside = f", held against {change.beside}" if change.beside else ""
    return f"{change.model}{place}, {change.processor}{beside}"


def _describe_change(change: Change) -> str:
    before, now = _write(change.before), _write(change.now)
    is_sentence = change.what in (OTHERWISE, TEST)
    return f"{change.what}: {now}, before: {before}" if is_sentence else f"{change.what} {now}, was {before}"


def _write(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    is_hash = len(value) == 64 and not set(value) - set("0123456789abcdef")
    return value[:SHORT] if is_hash else value


def _write_versions(versions: Sequence[VersionPair]) -> Iterator[str]:
    same = [f"{pair.name} {pair.now}" for pair in versions if pair.before == pair.now]
    for pair in versions:
        if pair.before != pair.now:
            yield from fold(f"{pair.name} {pair.now}, was {pair.before}", indent=2)
    if same:
        yield from fold(f"the same: {', '.join(same)}", indent=2)


def _tabulate(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) if rows else ""
