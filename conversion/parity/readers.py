"""Where what a model computes is read from, stage by stage: a pass as it runs, kept, or shared by several."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from conversion.parity.capture import StageRun
from conversion.parity.points import Stage


class Reader(Protocol):
    """Where what a model computes can be read, stage by stage in their order."""

    def read(self, stage: Stage) -> StageRun: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Kept:
    """What was read once, to be read again."""

    runs: Mapping[str, StageRun]

    @classmethod
    def of(cls, reader: Reader, stages: Sequence[Stage]) -> "Kept":
        with closing(reader):
            return cls({stage.name: reader.read(stage) for stage in stages})

    @classmethod
    def at(cls, stages: Sequence[Stage], values: Mapping[str, Tensor]) -> "Kept":
        """What is known already, by capture point."""
        return cls(
            {
                stage.name: StageRun({each.name: values[each.name] for each in stage.points if each.name in values})
                for stage in stages
            }
        )

    def read(self, stage: Stage) -> StageRun:
        return self.runs[stage.name]

    def close(self) -> None:
        pass


@dataclass
class Shared:
    """A reader for several that are always at the same stage."""

    reader: Reader
    latest: tuple[str, StageRun] | None = None

    def read(self, stage: Stage) -> StageRun:
        if self.latest is None or self.latest[0] != stage.name:
            self.latest = stage.name, self.reader.read(stage)
        return self.latest[1]

    def forget(self) -> None:
        """Free what was read last; nobody asks for that stage again."""
        self.latest = None

    def close(self) -> None:
        self.latest = None
        self.reader.close()
