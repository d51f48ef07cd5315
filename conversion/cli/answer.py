"""What a command gives back: the answers of the card, where the model lies, and how to load it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversion.artifact.answer import Answer, build_answer
from conversion.artifact.card import MatrixVerdict, build_parity_card
from conversion.artifact.usage import write_usage
from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from conversion.suite.exported import describe_losses
from conversion.suite.subject import Subject


@dataclass(frozen=True)
class Outcome:
    """What a conversion came to, and what became of it.

    Attributes:
        failure: where it first fails, in full; empty unless it does.
        output: where it was saved; None where it was not.
        usage: lines of Python that load it and are identical to the original.
        replaced: which other model was there before, in words; empty if none was.
        unwritten: why the report that was asked for is not there; empty where it is, or was not asked for.
    """

    answer: Answer
    failure: str
    output: str | None
    usage: tuple[str, ...]
    replaced: str = ""
    unwritten: str = ""

    @property
    def is_same(self) -> bool:
        """Whether the conversion failed nowhere."""
        return not self.failure


def build_outcome(subject: Subject, cells: Sequence[MatrixVerdict]) -> Outcome:
    """What the verdicts on a variant come to."""
    failures = [describe_failures(subject.variant, cells), *describe_losses(cells, subject.request.bounds)]
    failure = "\n\n".join(filter(None, failures))
    card = build_parity_card(subject.converted, subject.provenance, tuple(cells), subject.hashes)
    answer, target = build_answer(card, "you"), subject.staged.target
    if failure:
        return Outcome(answer, failure, None, ())
    return Outcome(answer, "", str(target), tuple(write_usage(card, shorten(target))))


def describe_failures(name: str, cells: Iterable[MatrixVerdict], most: int | None = None) -> str:
    """Where each cell that failed does, of so many at most; empty where none did."""
    failed = [cell for cell in cells if cell.verdict is Verdict.FAILED][:most]
    return "\n\n".join(
        describe_failure(name, f"{cell.device}, {cell.dtype}, {cell.attention}", cell.inputs) for cell in failed
    )


def shorten(path: Path) -> str:
    """A path as its user would type it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
