"""A variant under test: its checkpoint, its conversion, its staged artifact, and what the original computes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import conversion
from conversion import Conversion, ConversionError
from conversion.artifact import StagedArtifact, stage_artifact
from conversion.card import MatrixVerdict, Provenance, Source, describe_source
from conversion.checkpoint import Checkpoint, read_checkpoint
from conversion.download import download_checkpoint
from conversion.errors import concerning
from conversion.family import Family, load_family
from conversion.isolation import describe_original
from conversion.loading import (
    load_converted,
    load_image_processor,
    load_model,
    read_config,
    read_left_out,
)
from conversion.parity.compare import Local, OriginalRun
from conversion.parity.deviations import combine
from conversion.parity.points import Inputs
from conversion.parity.precision import Casts
from conversion.parity.verify import Candidate, InputVerdict, Trial, verify_together
from conversion.state_dict import merge_linear_head
from conversion.synthetic import write_synthetic_checkpoint
from conversion.variants import VARIANTS
from conversion.weights import read_tensors
from tests.inputs import InputCase, as_batch, draw_inputs, group_inputs, list_inputs, open_photo
from tests.memory import return_freed_memory
from tests.progress import describe_size, say
from tests.request import Request

CHECKSUMS = Path(__file__).parents[1] / "fixtures" / "checksums.json"
"""What official downloads were when somebody first saw one arrive whole."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Report an error of conversion by its message alone: it says all, a traceback would bury it."""
    try:
        yield
    except ConversionError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None  # or pytest would print both


@dataclass
class Subject:
    """A variant under test. Everything is made on first use, and freed by :meth:`close`.

    Attributes:
        selected: the ids of all tests of this variant that this run is to make; published when all have passed.
        cells: of the matrix, (device, dtype, attention), that this run is to verify.
    """

    variant: str
    request: Request
    selected: frozenset[str] = frozenset()
    cells: Sequence[tuple[str, str, str]] = ()
    passed: set[str] = field(default_factory=set)
    verdicts: list[MatrixVerdict] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)
    verified: dict[tuple[str, str, str], MatrixVerdict] = field(default_factory=dict)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Role to checkpoint file: the user's, the official ones, or synthetic ones that are gone afterwards."""
        if self.request.checkpoint:
            files = {"checkpoint": self.request.checkpoint}
            return files | ({"linear_head": self.request.linear_head} if self.request.linear_head else {})
        if self.request.weights == "pretrained":
            return download_checkpoint(VARIANTS[self.variant], CHECKSUMS, self.request.mirror)
        say(f"{self.variant}: drawing weights")
        files = write_synthetic_checkpoint(VARIANTS[self.variant], self.scratch, self.request.seed)
        return_freed_memory()  # drawing takes the whole model, verifying a few blocks
        return files

    @cached_property
    def scratch(self) -> Path:
        return Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="parity-")))

    @cached_property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Role to checkpoint, read."""
        entry = self.request.entry if self.request.checkpoint else VARIANTS[self.variant].entry
        size = sum(path.stat().st_size for path in self.files.values() if path.is_file())
        say(f"{self.variant}: reading {describe_size(size) if size else 'a folder'}")
        return {
            role: read_checkpoint(path, entry=entry if role == "checkpoint" else None, dtype=self.request.save_dtype)
            for role, path in self.files.items()
        }

    @property
    def read(self) -> dict[str, Tensor]:
        """All that was read, a linear head under its prefix."""
        head = self.checkpoints["linear_head"].state_dict if "linear_head" in self.checkpoints else None
        return merge_linear_head(self.checkpoints["checkpoint"].state_dict, head)

    @property
    def overrides(self) -> Mapping[str, object]:
        """What shapes cannot tell: as given, or as the checkpoint's own config has it; of official ones it is known."""
        if self.request.checkpoint:
            return {**self.checkpoints["checkpoint"].known, **self.request.overrides}
        family = load_family(VARIANTS[self.variant].family)
        spec = family.spec_of(VARIANTS[self.variant])
        return {name: getattr(spec, entry.field) or None for name, entry in family.overrides.items()}

    @cached_property
    def converted(self) -> Conversion:
        """The conversion that becomes the artifact."""
        return self.convert(self.request.image_size)

    @cached_property
    def staged(self) -> StagedArtifact:
        """The artifact, written, loaded back and found equal; beside its target if it is to be kept."""
        target = (self.request.artifacts or self.scratch) / self.variant
        is_kept = self.request.artifacts is not None
        if is_kept:
            _ = self.sources  # hashed while the artifact is written
        size = sum(tensor.nbytes for tensor in self.converted.state_dict.values())
        say(f"{self.variant}: writing {describe_size(size)}")
        staging = stage_artifact(self.converted, target, self.request.max_shard_size, is_kept=is_kept)
        return self.resources.enter_context(staging)

    @property
    def directory(self) -> Path:
        """What ``from_pretrained`` reads."""
        return self.staged.directory

    @property
    def family(self) -> Family[Any]:
        return load_family(self.converted.family)

    @cached_property
    def inputs(self) -> list[InputCase]:
        return list_inputs(self.converted.spec, self.converted.input_size, self.converted.baked)

    def convert(self, image_size: int | None) -> Conversion:
        """Convert the checkpoint, with position embeddings baked for ``image_size``."""
        head = self.checkpoints.get("linear_head")
        with concerning(self.files["checkpoint"].name):
            return conversion.convert(
                self.checkpoints["checkpoint"].state_dict,
                self.variant if self.variant in VARIANTS else None,
                linear_head=head.state_dict if head else None,
                labels=self.request.labels,
                **self.overrides,
                image_size=image_size,
            )

    def restore(self) -> dict[str, Tensor]:
        """The original state dict, from the written artifact."""
        dropped = read_left_out(self.directory)
        return conversion.restore(read_tensors(self.directory), read_config(self.directory), dropped)

    @cached_property
    def clone(self) -> Path | None:
        """Of the authors' repository, if their code is to be the reference."""
        return self.family.find_clone(self.request.original)

    @cached_property
    def originals(self) -> dict[str, nn.Module]:
        return {}

    def original(self, device: str) -> nn.Module:
        """The original model with the checkpoint's own weights, nothing baked."""
        if device not in self.originals:
            unbaked = self.converted if self.converted.baked is None else self.convert(None)
            source = {key: tensor.to(device) for key, tensor in unbaked.source.items()}
            self.originals[device] = self.family.load_original(unbaked.spec, source, self.clone)
        return self.originals[device]

    def load(self, image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        """The converted model: the artifact itself, or one baked for another size, which is not written to disk."""
        if image_size in (None, self.converted.spec.image_size):
            model = load_model(self.directory, attention=attention, dtype=dtype)
        else:
            model = load_converted(self.convert(image_size), attention=attention, dtype=dtype)
        return model.to(device)

    def verify(self, device: str, dtype: str, attention: str) -> MatrixVerdict:
        """Verify one cell of the matrix, on every input; with it those that differ in attention alone.

        What the original computes is the same for all of them, and the larger part of the work.
        """
        cell = device, dtype, attention
        if cell not in self.verified:
            beside = [other for *place, other in self.cells if place == [device, dtype]]
            self.verified |= self._verify_together(device, dtype, list(dict.fromkeys([attention, *beside])))
        return self.verified.pop(cell)

    def _verify_together(
        self, device: str, dtype: str, attentions: Sequence[str]
    ) -> dict[tuple[str, str, str], MatrixVerdict]:
        """Those that differ in attention alone, by their cell."""
        models = {
            baked: {attention: self.load(baked, device, dtype, attention) for attention in attentions}
            for baked in dict.fromkeys(case.baked for case in self.inputs)
        }
        results: dict[str, list[InputVerdict]] = {attention: [] for attention in attentions}
        for cases in group_inputs(self.inputs):
            for of_case in self.verify_cases(cases, models, device, dtype):
                for attention, result in of_case.items():
                    # the first failure is the one that is explained; of others, tensors would be kept for nothing
                    has_evidence = any(earlier.evidence for earlier in results[attention])
                    results[attention].append(replace(result, evidence=None) if has_evidence else result)
        original = describe_original(self.clone)
        return {
            (device, dtype, attention): MatrixVerdict(
                device, dtype, attention, self.request.seed, tuple(results[attention]), original
            )
            for attention in attentions
        }

    def verify_cases(
        self, cases: Sequence[InputCase], models: Mapping[int | None, Mapping[str, nn.Module]], device: str, dtype: str
    ) -> list[dict[str, InputVerdict]]:
        """Verify some inputs, side by side: of each, a verdict by attention.

        Args:
            models: loaded already, by the image size that they are baked for, and their attention.
        """
        casts, is_slow = Casts(), self.variant in VARIANTS and VARIANTS[self.variant].slow
        trials = [self._prepare(case, models[case.baked], device, dtype, casts) for case in cases]
        where = f"{self.variant}: {', '.join([device, dtype, *models[cases[0].baked]])}: "
        where += ", ".join(case.name for case in cases)
        local = Local.WHERE_FAILED if is_slow else Local.EVERYWHERE
        results = verify_together(trials, local, lambda stage: say(f"{where}: {stage}"))
        return [
            {name: replace(result, baked=case.baked) for name, result in zip(models[case.baked], row, strict=True)}
            for case, row in zip(cases, results, strict=True)
        ]

    def _prepare(
        self, case: InputCase, models: Mapping[str, nn.Module], device: str, dtype: str, casts: Casts
    ) -> Trial:
        spec = replace(self.converted.spec, image_size=case.baked or self.converted.spec.image_size)
        inputs, converted_inputs, counterfactual_inputs = self.draw(case)
        size = open_photo().size if counterfactual_inputs else None
        of_image = self.family.find_image_deviation(spec, size, case.height) if size else None
        candidates = [
            Candidate(model, combine(self.family.find_deviation(spec, case.shape, dtype, attention), of_image))
            for attention, model in models.items()
        ]
        stages = self.family.list_stages(spec, masked=case.masked)
        run = OriginalRun(self.original(device), stages, inputs, getattr(torch, dtype), casts=casts)
        return Trial(case.name, run, candidates, converted_inputs, counterfactual_inputs)

    def draw(self, case: InputCase) -> tuple[Inputs, Inputs | None, Inputs | None]:
        """The original's input; the converted model's, and the counterfactual's, where they come another way."""
        if not case.photo:
            return draw_inputs(case, self.converted.spec.patch_size, self.request.seed), None, None
        photo, build_transform = open_photo(), partial(self.family.build_transform, self.converted.spec, case.height)
        processed = load_image_processor(self.directory)(photo, return_tensors="pt")["pixel_values"]
        as_processor = as_batch(build_transform(as_processor=True)(photo))
        return as_batch(build_transform()(photo)), Inputs(processed), as_processor

    @contextmanager
    def passing(self, test: pytest.Item) -> Iterator[None]:
        """Around each test of this variant; the last of those selected to pass publishes what was asked for."""
        with plain_errors():
            yield
            self.passed.add(test.nodeid)
            if self.request.artifacts and self.verdicts and self.passed == self.selected:
                self.staged.publish(self.provenance, tuple(self.verdicts))
                test.user_properties.append(("kept", self.variant))  # which goes to the summary, from any worker

    def close(self) -> None:
        """Free everything; what was not published is gone."""
        self.resources.close()
        return_freed_memory()

    @cached_property
    def sources(self) -> dict[str, Future[Source]]:
        """Role to what is said of its checkpoint, as soon as its files are hashed."""
        background = self.resources.enter_context(ThreadPoolExecutor(1))
        return {role: background.submit(describe_source, checkpoint) for role, checkpoint in self.checkpoints.items()}

    @property
    def provenance(self) -> Provenance:
        sources = {role: source.result() for role, source in self.sources.items()}
        weights = "checkpoint" if self.request.checkpoint else self.request.weights
        return Provenance(weights, self.request.seed if weights == "synthetic" else None, sources)
