"""The variants under test, each made when it is first asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from conversion.artifact.card import place_of
from conversion.exports.asked import find_export
from conversion.families.variants import VARIANTS
from conversion.intake.transformers_folder import is_transformers_folder
from conversion.suite.extent import choose_row, is_as_deep
from conversion.suite.folder import FolderSubject
from conversion.suite.settings import Request
from conversion.suite.subject import Subject


@dataclass
class Pool:
    """Variants under test by name. A backbone's classifier is made with it, to be verified beside it.

    Attributes:
        tests: of each variant that this run is to make.
        dropped: those that are done with.
    """

    request: Request
    tests: Mapping[str, Sequence[pytest.Item]]
    made: dict[str, Subject] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def take(self, name: str) -> Subject:
        """The variant of this name."""
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def close(self) -> None:
        """Free all that is left."""
        for name in list(self.made):
            self.drop(name)

    def drop(self, name: str) -> None:
        """Free a variant."""
        self.dropped.add(name)
        self.made.pop(name).close()

    def _make(self, name: str) -> Subject:
        selected = frozenset(test.nodeid for test in self.tests[name])
        chosen = [test.callspec.params for test in self.tests[name]]  # type: ignore[attr-defined]
        places = [place_of(each) for each in chosen if "attention" in each]
        cells = [place for place in places if not find_export(place)]
        if self.request.checkpoint and is_transformers_folder(self.request.checkpoint):
            return FolderSubject(name, self.request, selected, cells)
        row = choose_row(name, self.request)
        classifiers = (other.name for other in VARIANTS.values() if other.backbone == name != other.name)
        wanted = (other for other in classifiers if other in self.tests and other not in self.dropped)
        alike = (other for other in wanted if is_as_deep(row, choose_row(other, self.request)))
        classifier = next(map(self.take, alike), None)
        return Subject(name, self.request, selected, cells, classifier, row)
