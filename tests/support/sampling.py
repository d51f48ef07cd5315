"""Which of many cases a run tries: all with ``--all``; else one of each sort, drawn by a seed that is printed."""

import datetime
import os
import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

SEED = "PARITY_SAMPLE"
"""The environment variable that gives the seed: to draw again what a run of another day has drawn."""

Case = TypeVar("Case")


def choose_seed() -> int:
    """The seed of this run's samples: as given; else in CI the date, so that all cases have their turn; else 0."""
    if SEED in os.environ:
        return int(os.environ[SEED])
    is_ci = os.environ.get("CI", "").lower() in ("true", "1")
    return int(f"{datetime.datetime.now(datetime.UTC):%Y%m%d}") if is_ci else 0


@dataclass(frozen=True)
class Sampler:
    """What of many cases is tried.

    Attributes:
        is_all: every one, whatever the seed.
    """

    is_all: bool
    seed: int

    def draw(self, cases: Iterable[Case], sorts: Callable[[Case], Iterable[Hashable]]) -> list[Case]:
        """Cases of every sort, in their order; none whose sorts all have one already.

        Args:
            sorts: those that a case is of, one or several.
        """
        cases = list(cases)
        if self.is_all:
            return cases
        order, seen, drawn = random.Random(self.seed).sample(range(len(cases)), len(cases)), set[Hashable](), []
        for index in order:
            if new := set(sorts(cases[index])) - seen:
                seen |= new
                drawn.append(index)
        return [cases[index] for index in sorted(drawn)]

    def count(self, few: int, many: int) -> int:
        """How many cases of a kind of which any number can be made."""
        return many if self.is_all else few
