"""A variant under test: its checkpoint, its conversion, its staged artifact, and what the original computes."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import conversion
from conversion.artifact.card import MatrixVerdict, Provenance, Source, describe_source, record_cell
from conversion.artifact.load import load_converted, load_image_processor, load_model
from conversion.artifact.sizes import describe_sizes, find_sizes
from conversion.artifact.stage import StagedArtifact, refuse_other, stage_artifact
from conversion.artifact.weights import read_tensors
from conversion.errors import concerning
from conversion.families.base import Family, load_family, tell_settings
from conversion.families.external import AUTO, BUNDLED, describe_original
from conversion.families.timm_code import TIMM_CODE, describe_timm
from conversion.families.told import describe_told
from conversion.families.variants import VARIANTS, Variant
from conversion.intake.checkpoint import Checkpoint
from conversion.intake.download import download_checkpoint, find_checksums
from conversion.intake.synthetic import write_synthetic_checkpoint
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import read_config, read_left_out
from conversion.state_dicts.heads import merge_heads
from conversion.suite.extent import describe_extent
from conversion.suite.failing import fail_plainly
from conversion.suite.inputs import InputCase, list_inputs, open_photo
from conversion.suite.memory import return_freed_memory
from conversion.suite.progress import describe_size, say
from conversion.suite.reading import list_own_files, read_files, take_heads
from conversion.suite.scratch import open_scratch
from conversion.suite.settings import Request

Cell = tuple[str, str, str]  # of the matrix: device, dtype, attention implementation


@dataclass
class Subject:
    """A variant under test. Everything is made on first use, and freed by :meth:`close`.

    Attributes:
        selected: the ids of all tests of this variant that this run is to make; published when all have passed.
        cells: of the matrix, (device, dtype, attention), that this run is to verify.
        classifier: on this backbone, if it is to be verified, too: they have a file in common.
        row: the official variant as this run verifies it; None of any other model.
        given: role to checkpoint, of what was read already.
        verified: cells that were verified beside others, and whose own test has not asked for them yet.
        is_pictured: what a report shows of it was taken.
        traced: dtype to the converted model, ready to be exported in it; of the last dtype only.
    """

    variant: str
    request: Request
    selected: frozenset[str] = frozenset()
    cells: Sequence[Cell] = ()
    classifier: "Subject | None" = None
    row: Variant | None = None
    given: dict[str, Checkpoint] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    verdicts: list[MatrixVerdict] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)
    verified: dict[Cell, MatrixVerdict] = field(default_factory=dict)
    is_pictured: bool = False
    traced: dict[str, Any] = field(default_factory=dict)

    claim = ""
    """All that is claimed where the comparison has not failed; the verdict itself unless given."""

    @property
    def remarks(self) -> list[str]:
        """What is said of it below the table of verdicts: of a user's checkpoint, on whose word settings are taken."""
        if not self.request.checkpoint:
            return list(filter(None, [describe_extent(self.row)]))
        said = [text for checkpoint in self.checkpoints.values() for text in checkpoint.said]
        return [*said, *describe_told(self.converted.told, "you"), *self.converted.notes]

    def describe_sizes(self, cell: MatrixVerdict) -> str:
        """At which image sizes it is identical, in words.

        Empty where it is identical at every size that concerns its user, or where the cell leaves inputs out.
        """
        if len(cell.inputs) < len(self.inputs):
            return ""
        out = self.converted
        return describe_sizes(
            find_sizes(self.family, out.spec, out.input_size, [record_cell(cell)], is_baked=bool(out.baked))
        )

    @cached_property
    def files(self) -> dict[str, Path]:
        """Role to checkpoint file: the user's, the official ones, or synthetic ones that are gone afterwards."""
        if self.request.checkpoint:
            return list_own_files(self.request)
        if self.request.weights == "pretrained":
            return download_checkpoint(self.official, find_checksums(), self.request.mirror)
        if self.classifier:  # drawn, it has this one's file; each has a link to it, and deletes its own
            drawn = self.classifier.files["checkpoint"]
            with suppress(OSError):  # where there are no such links, both are drawn
                (self.scratch / drawn.name).hardlink_to(drawn)
                return {"checkpoint": self.scratch / drawn.name}
        say(f"{self.variant}: drawing weights")
        files = write_synthetic_checkpoint(self.official, self.scratch, self.request.seed)
        return_freed_memory()  # drawing takes the whole model, verifying a few blocks
        return files

    @property
    def official(self) -> Variant:
        """The official variant; shortened where this run verifies a few of its blocks."""
        return self.row or VARIANTS[self.variant]

    @property
    def is_shortened(self) -> bool:
        return bool(describe_extent(self.row))

    @cached_property
    def scratch(self) -> Path:
        return Path(self.resources.enter_context(open_scratch()))

    @cached_property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """Role to checkpoint, read."""
        if self.given:
            return self.given
        entry = self.request.entry if self.request.checkpoint else self.official.entry
        size = sum(path.stat().st_size for path in self.files.values() if path.is_file())
        say(f"{self.variant}: reading {describe_size(size) if size else 'a folder'}")
        return read_files(self.request, self.files, entry)

    @property
    def read(self) -> dict[str, Tensor]:
        """All that was read, a head under its prefix."""
        return merge_heads(self.checkpoints["checkpoint"].state_dict, **take_heads(self.checkpoints))

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What its user tells of a checkpoint; of official ones all is known, unless they are shortened."""
        if self.request.checkpoint:
            return self.request.overrides
        family = load_family(self.official.family)
        told = tell_settings(family, family.spec_of(self.official)) if self.is_shortened else {}
        return {**told, **{name: each for name, each in self.request.overrides.items() if name in family.returned}}

    @cached_property
    def converted(self) -> Conversion:
        """The conversion that becomes the artifact."""
        return self.convert(self.request.image_size)

    @cached_property
    def staged(self) -> StagedArtifact:
        """The artifact, written, loaded back and found equal; beside its target if it is to be kept."""
        target = self.request.output or (self.request.artifacts or self.scratch) / self.name
        is_kept = bool(self.request.artifacts or self.request.report)
        if is_kept:
            _ = self.sources  # hashed while the artifact is written
        size = sum(tensor.nbytes for tensor in self.converted.state_dict.values())
        say(f"{self.variant}: writing {describe_size(size)}")
        staging = stage_artifact(self.converted, target, self.request.max_shard_size, is_kept=is_kept)
        staged = self.resources.enter_context(staging)
        if self.request.artifacts and not self.request.is_named and target.exists():
            card = {"source": asdict(self.provenance), "result": dict(staged.seal())}
            refuse_other(target, card, is_own=self.request.checkpoint is not None)
        return staged

    @property
    def name(self) -> str:
        """Of the folder that the artifact is kept in."""
        return self.request.name_artifact(self.variant, self.converted.baked)

    @property
    def directory(self) -> Path:
        """What ``from_pretrained`` reads."""
        return self.staged.directory

    @cached_property
    def processed_photo(self) -> Tensor:
        """The photo through the artifact's image processor, ``(1, 3, height, width)``."""
        photo = open_photo(self.converted.spec)
        pixel_values: Tensor = load_image_processor(self.directory)(photo, return_tensors="pt")["pixel_values"]
        return pixel_values

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """File that a model is loaded from to SHA-256."""
        return self.staged.seal()

    @property
    def family(self) -> Family[Any]:
        return load_family(self.converted.family)

    @cached_property
    def inputs(self) -> list[InputCase]:
        return self._select_inputs(list_inputs(self.converted.spec, self.converted.input_size, self.converted.baked))

    def _select_inputs(self, cases: list[InputCase]) -> list[InputCase]:
        """Leave out what the reference does not take: timm has no mask token."""
        return [case for case in cases if not (case.masked and self.reference == TIMM_CODE)]

    def convert(self, image_size: int | None) -> Conversion:
        """Convert the checkpoint, with position embeddings baked for ``image_size``, which its images have then."""
        sizes = {} if image_size is None else {"image_size": image_size, "input_size": None}
        with concerning(self.files["checkpoint"].name):
            return conversion.convert(
                self.checkpoints["checkpoint"].state_dict,
                self.request.variant if self.request.checkpoint or self.is_shortened else self.variant,
                **take_heads(self.checkpoints),
                labels=self.request.labels,
                **{**self.overrides, **sizes},
            )

    def restore(self) -> dict[str, Tensor]:
        """The original state dict, from the written artifact."""
        dropped = read_left_out(self.directory)
        return conversion.restore(read_tensors(self.directory), read_config(self.directory), dropped)

    @cached_property
    def reference(self) -> str:
        """Whose code the original is: as asked for; else timm's for what only timm writes, and ours for all others."""
        if self.request.original != AUTO:
            return self.request.original
        if not self.request.checkpoint or len(self.checkpoints) > 1:
            return BUNDLED
        checkpoint = self.checkpoints["checkpoint"]
        return BUNDLED if checkpoint.untranslated is None and checkpoint.timm is None else TIMM_CODE

    @cached_property
    def clone(self) -> Path | None:
        """Of the authors' repository, if their code is to be the reference."""
        return None if self.reference == TIMM_CODE else self.family.find_clone(self.reference)

    def describe_reference(self) -> str:
        """Describe whose code the original is, for the artifact's card."""
        if self.reference == TIMM_CODE:
            return describe_timm(self.checkpoints["checkpoint"].timm)
        return describe_original(self.clone)

    @cached_property
    def originals(self) -> dict[str, nn.Module]:
        return {}

    def original(self, device: str) -> nn.Module:
        """The original model with the checkpoint's own weights, nothing baked."""
        if device not in self.originals:
            unbaked = self.converted if self.converted.baked is None else self.convert(None)
            checkpoint = self.checkpoints["checkpoint"]
            source = unbaked.source
            if self.reference == TIMM_CODE:
                source = checkpoint.state_dict if checkpoint.untranslated is None else checkpoint.untranslated
            source = {key: tensor.to(device) for key, tensor in source.items()}
            with concerning(self.files["checkpoint"].name):
                self.originals[device] = (
                    self.family.load_timm(unbaked.spec, source, checkpoint.timm)
                    if self.reference == TIMM_CODE
                    else self.family.load_original(unbaked.spec, source, self.clone)
                )
        return self.originals[device]

    def load(self, image_size: int | None, device: str, dtype: str, attention: str) -> nn.Module:
        """The converted model: the artifact itself, or one baked for another size, which is not written to disk."""
        model: nn.Module
        if image_size in (None, self.converted.spec.image_size):
            model = load_model(self.directory, attention=attention, dtype=dtype)
        else:
            model = load_converted(self.convert(image_size), attention=attention, dtype=dtype)
        return model.to(device)

    @contextmanager
    def passing(self, test: pytest.Item) -> Iterator[None]:
        """Around each test of this variant; the last of those selected to pass publishes what was asked for."""
        with fail_plainly():
            yield
            self.passed.add(test.nodeid)
            is_compared = any(cell.exported is None for cell in self.verdicts)  # and not only what it was exported to
            if self.request.artifacts and is_compared and self.passed == self.selected:
                replaced = self.staged.publish(self.provenance, tuple(self.verdicts))
                test.user_properties.append(("kept", self.name))  # which goes to the summary, from any worker
                test.user_properties += [("replaced", f"{self.name}: replaced {replaced}")] if replaced else []

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
