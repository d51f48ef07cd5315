"""What the commands write: for people, at the terminal's width; or as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from conversion.artifact.answer import Answer, Otherwise, describe_judged, describe_off
from conversion.artifact.sizes import describe_sizes
from conversion.cli.answer import Outcome, shorten
from conversion.cli.comparing import Comparison
from conversion.cli.inspecting import Findings
from conversion.exports.asked import NOT_AS_ASKED
from conversion.parity.verdict import Verdict
from conversion.report.text import fold

MANY = 12
"""Differences that are listed of a kind."""


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Write both answers, where the model lies, and how to load it."""
    plain = asdict(outcome)
    _show({"same": outcome.is_same, **plain.pop("answer"), **plain} if as_json else write_outcome(outcome))


def write_outcome(outcome: Outcome) -> Iterator[str]:
    """The lines of an outcome."""
    answer = outcome.answer
    if answer.is_synthetic:
        yield from fold("RANDOM WEIGHTS: this proves the conversion; the model has learned nothing.")
        yield ""
    yield f"{answer.variant}"
    yield ""
    yield "Conversion"
    for judged in answer.conversion:
        yield from fold(describe_judged(judged), indent=2)
    if answer.exports:
        yield ""
        yield "Exports"
        for judged in answer.exports:
            yield from fold(f"{describe_judged(judged)} ({judged.dtype})", indent=2)
    yield ""
    if outcome.failure:
        yield outcome.failure
    else:
        yield "What transformers does otherwise"
        yield from _write_otherwise(answer)
    yield from _write_remarks(answer)
    yield ""
    if not outcome.is_same:
        if answer.verdict is not Verdict.FAILED and answer.exports:
            yield from fold(f"{_begin(answer.claim)}, but {NOT_AS_ASKED}. Nothing was saved.")
            return
        is_told = not any(judged.cause for judged in answer.conversion)
        yield f"{'Not' if is_told else 'Not shown to be'} the same model. Nothing was saved."
        return
    yield from fold(f"{_begin(answer.claim)}: {shorten(Path(str(outcome.output)))}")
    if answer.baked:
        yield "For images of another size, convert with --image-size of that size."
    if answer.condition:
        yield from fold(answer.condition)
    if outcome.replaced:
        yield from fold(f"It replaced {outcome.replaced}.")
    yield ""
    yield from outcome.usage  # not indented, so that it can be pasted


def show_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """Write what differs, or that nothing does."""
    plain = asdict(comparison)
    _show({"same": comparison.is_same, **plain.pop("answer"), **plain} if as_json else write_comparison(comparison))


def write_comparison(comparison: Comparison) -> Iterator[str]:
    """The lines of a comparison."""
    target = f"{comparison.target} ({comparison.origin})" if comparison.origin else comparison.target
    yield from fold(f"{target} beside {comparison.original} ({comparison.variant})")
    for title, differences in (("Tensors", comparison.tensors), ("Settings", comparison.settings)):
        yield ""
        yield title
        for line in differences[:MANY] or ("nothing differs",):
            yield from fold(line, indent=2)
        if len(differences) > MANY:
            yield f"  and {len(differences) - MANY} more (all of them with --json)"
    yield ""
    yield "Activations"
    answer = comparison.answer
    for line in (*map(describe_judged, answer.conversion), *comparison.skipped, comparison.obstacle):
        yield from fold(line, indent=2) if line else ()
    if comparison.failure:
        yield ""
        yield comparison.failure
    if answer.otherwise:
        yield ""
        yield "What transformers does otherwise, with any weights"
        if sizes := describe_sizes(answer.sizes):
            yield from fold(sizes, indent=2)
        yield from _list_otherwise(answer.otherwise)
    yield from _write_remarks(answer)
    yield ""
    if comparison.is_same:
        yield from fold(f"{_begin(answer.claim)}.")
        if answer.condition:
            yield from fold(answer.condition)
    else:
        alike = "To compare it with the original rounded alike:"
        yield alike if comparison.rounding else "To convert the original itself:"
        yield f"  {comparison.command}"
        yield ""
        yield "Not the same: its weights are rounded." if comparison.is_rounded else "Not the same."


def _begin(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}"


def _write_remarks(said: Answer) -> Iterator[str]:
    """On whose word settings are taken that no tensor tells, and what else a user should know."""
    for title, lines in (("Taken for granted", said.told), ("What to know", said.notes)):
        if lines:
            yield from ("", title)
            for line in lines:
                yield from fold(line, indent=2)


def _list_otherwise(otherwise: Sequence[Otherwise]) -> Iterator[str]:
    for each in otherwise:
        yield from fold(f"{each.name}: {each.cause}.", indent=2)
        for line in (describe_off(each), f"What to do: {each.remedy}."):
            yield from fold(line, indent=4)


def _write_otherwise(answer: Answer) -> Iterator[str]:
    if not answer.otherwise:
        yield "  nothing"
    if sizes := describe_sizes(answer.sizes):
        loaded = f" The code at the end loads it at {answer.sizes.identical[0]}." if answer.sizes.is_square else ""
        yield from fold(sizes + loaded, indent=2)
    yield from _list_otherwise(answer.otherwise)


def show_findings(findings: Findings, *, as_json: bool) -> None:
    """Write what a checkpoint holds."""
    _show(asdict(findings) if as_json else write_findings(findings))


def write_findings(findings: Findings) -> Iterator[str]:
    """The lines of what was found."""
    yield f"{findings.path}"
    sections: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("What is in it", findings.steps),
        ("What it is", findings.model),
        ("What no tensor tells", findings.told),
        ("What is left out", findings.dropped),
        ("What to know", findings.notes),
    )
    for title, lines in sections:
        if lines:
            yield ""
            yield title
            for line in lines:
                yield from fold(line, indent=2)
    if findings.obstacle:
        yield ""
        yield "It cannot be converted as it is"
        for line in findings.obstacle.splitlines():
            yield from fold(line, indent=2)


def show_restored(written: Sequence[Path], others: Sequence[str]) -> None:
    """Write which files were written, and what the checkpoint had otherwise."""
    for path in written:
        typer.echo(str(path))
    if others:
        typer.echo("What the checkpoint had otherwise")
    for line in others:
        typer.echo("\n".join(fold(line, indent=2)))


def _show(content: Iterator[str] | dict[str, Any] | list[Any]) -> None:
    """Write lines for people as they are, and anything else as JSON."""
    typer.echo("\n".join(content) if isinstance(content, Iterator) else json.dumps(content, indent=1))
