"""A tiny model on its way from a training run's file to an artifact, and what notices a fault there."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion import ConversionError
from conversion.artifact.checks import check_card
from conversion.artifact.stage import save_artifact
from conversion.intake.checkpoint import load_checkpoint
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.suite.cells import CellModel, verify_cases
from conversion.suite.inputs import InputCase
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.mutation.injection import Outcome
from tests.support.golden import GoldenModel

CHUNKS = 2


@dataclass(frozen=True)
class FileFault:
    """A fault in reading a checkpoint, in preparing images, or in writing an artifact.

    Attributes:
        at: ``intake``, ``preprocessing`` or ``artifact``.
        kind: of fault; a row of the kill matrix.
        put_in: puts it into the code; what it returns, if anything, is done to the file that is read, or to the
            published artifact.
    """

    at: str
    kind: str
    put_in: Callable[[pytest.MonkeyPatch], Callable[[Path], None] | None]


@dataclass(frozen=True)
class FileSetup:
    """Where a fault happens: a golden architecture with synthetic weights, and a place for files."""

    golden: GoldenModel
    directory: Path
    patch: pytest.MonkeyPatch

    def draw(self, seed: int = 0) -> dict[str, Tensor]:
        return draw_state_dict(self.golden.family, self.golden.spec, self.golden.name, seed)

    def convert(self) -> conversion.Conversion:
        labels = [f"class {index}" for index in range(self.golden.spec.num_classes)]
        return conversion.convert(self.draw(), labels=labels or None, **self.golden.overrides)

    def judge(self, fault: FileFault) -> Outcome:
        """What notices it."""
        with self.patch.context() as patch:
            afterwards = fault.put_in(patch)
            noticed = getattr(self, f"_judge_{fault.at}")(afterwards)
        return Outcome(f"{fault.at}: {fault.kind}", "", frozenset(noticed))

    def _judge_intake(self, file: Callable[[Path], None] | None) -> set[str]:
        """A training run's checkpoint of known content is read, and converted."""
        known = self.draw()
        torch.save(wrap(known, self.draw(seed=1)), self.directory / "checkpoint.pth")
        if file:
            file(self.directory / "checkpoint.pth")
        noticed = set()
        try:
            found = load_checkpoint(self.directory / "checkpoint.pth")
        except ConversionError:
            return {"intake"}
        kept = {key: tensor for key, tensor in found.items() if not key.startswith("dino_head.")}
        if kept.keys() != known.keys() or not all(is_bit_equal(known[key], kept[key]) for key in known):
            noticed.add("intake")
        try:
            conversion.convert(found, **self.golden.overrides)
        except ConversionError:
            noticed.add("keys")
        return noticed

    def _judge_preprocessing(self, _: object) -> set[str]:
        """The photo, from file to output, through the artifact's image processor.

        What the check of the files notices, the photo is to notice as well.
        """
        noticed = self._run_photo()
        if noticed == {"artifact"}:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("conversion.artifact.stage.check_files", lambda *_: None)
                noticed |= self._run_photo()
        return noticed

    def _run_photo(self) -> set[str]:
        torch.save(self.draw(), self.directory / "checkpoint.pth")
        request = Request(checkpoint=self.directory / "checkpoint.pth", overrides=self.golden.overrides)
        subject = Subject(f"{self.golden.family.name}_custom", request)
        try:
            attention = self.golden.family.choose_attention()
            model = subject.load(None, "cpu", "float32", attention)
            side = subject.converted.input_size
            case = InputCase("photo", side, side, photo=True)
            ((result,),) = verify_cases(
                [CellModel(subject, attention, [case], {None: model})], [case], "cpu", "float32"
            )
        except ConversionError:
            return {"artifact"}
        finally:
            subject.close()
        return {"activations"} if result.verdict is Verdict.FAILED else set()

    def _judge_artifact(self, afterwards: Callable[[Path], None] | None) -> set[str]:
        """What is written is checked before it is published, and after that by its card."""
        try:
            save_artifact(self.convert(), self.directory / "artifact")
        except ConversionError:
            assert afterwards is None, "there is nothing that it could be done to"
            return {"artifact"}
        if afterwards:
            afterwards(self.directory / "artifact")
        try:
            check_card(self.directory / "artifact")
        except ConversionError:
            return {"artifact"}
        return set()


def wrap(teacher: Mapping[str, Tensor], student: Mapping[str, Tensor]) -> dict[str, Any]:
    """A training run's checkpoint: two models, prefixes, blocks in chunks, a head of the training's."""

    def chunk(key: str) -> str:
        return re.sub(r"^blocks\.(\d+)\.", lambda found: f"blocks.{int(found[1]) // CHUNKS}.{found[1]}.", key)

    return {
        name: {f"backbone.{chunk(key)}": tensor for key, tensor in weights.items()}
        | {"dino_head.last_layer.weight": torch.ones(2)}
        for name, weights in (("student", student), ("teacher", teacher))
    }
