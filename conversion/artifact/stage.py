"""The artifact: staged beside its target, loaded back, compared, moved there and published by one rename.

That weights are not loaded before they are published is seen to in :mod:`conversion.artifact.weights`.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from conversion.artifact.card import MatrixVerdict, Provenance, build_parity_card, find_provenance, format_json
from conversion.artifact.checks import check_files, find_card
from conversion.artifact.files import Fingerprint, flush, is_ours, seal_files, take_fingerprints
from conversion.artifact.identity import describe_other, describe_other_settings, has_own_weights
from conversion.artifact.load import load_model
from conversion.artifact.model_card import render_model_card
from conversion.artifact.weights import is_published, publish_weights, save_tensors, save_weights
from conversion.errors import ArtifactError, ConversionWarning
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, MODEL_CARD, PARITY_CARD, PREPROCESSOR


@dataclass(frozen=True)
class StagedArtifact:
    """A converted model on disk, loaded back and found equal, not yet published.

    Attributes:
        fingerprints: file name to what it had when it was found equal.
        seal: have every file on the disk; gives file name, as published, to SHA-256.
    """

    conversion: Conversion
    directory: Path
    target: Path
    fingerprints: Mapping[str, Fingerprint]
    seal: Callable[[], Mapping[str, str]]

    def publish(self, provenance: Provenance, verdicts: tuple[MatrixVerdict, ...] = ()) -> str:
        """Write the cards, move the directory to its target, and give the weights the name that makes a model of it.

        That last rename publishes: before it nothing loads. An artifact that is there already is replaced, or is
        there again if anything fails.

        Returns:
            which other model was there and was replaced, in words; empty if there was none.

        Raises:
            ArtifactError: the disk is full, or the target has become something else in the meantime; or what lies
                there in the end is not what the cards speak of.
        """
        with _explain_io_errors(self.target):
            check_target(self.target)
            self._check_untouched(self.directory)
            card = build_parity_card(self.conversion, provenance, verdicts, self.seal())
            (self.directory / MODEL_CARD).write_text(render_model_card(self.conversion, card), encoding="utf-8")
            (self.directory / PARITY_CARD).write_text(format_json(card) + "\n", encoding="utf-8")
            for name in (MODEL_CARD, PARITY_CARD):
                flush(self.directory / name)
            present = find_card(self.target)
            replaced = describe_other(present, card) or describe_other_settings(present, card)
            previous = _hidden(self.target, "previous")
            if self.target.exists():
                self.target.rename(previous)
            try:
                self.directory.rename(self.target)
                self._check_untouched(self.target)
                publish_weights(self.target)
            except BaseException:
                _recover(self.target)
                raise
            flush(self.target)
            flush(self.target.parent)
            shutil.rmtree(previous, ignore_errors=True)
            return replaced

    def _check_untouched(self, directory: Path) -> None:
        """Check that nobody has written to a file since it was found equal: that is what the cards speak of."""
        now = take_fingerprints(directory)
        touched = [name for name in self.fingerprints.keys() | now if self.fingerprints.get(name) != now.get(name)]
        if touched:
            problems = [f"{name}: was changed since" for name in sorted(touched)]
            hint = "Convert the checkpoint again, with nobody else at the files."
            raise ArtifactError(f"{directory}: its files are not those that were compared.", problems, hint)


def save_artifact(
    conversion: Conversion,
    target: str | Path,
    provenance: Provenance | None = None,
    *,
    max_shard_size: str | None = None,
) -> Path:
    """Write a converted model so that ``from_pretrained`` reads it: complete, or not at all.

    The tensors are proven, bit for bit; activations are not compared here, which is what the test suite does, and
    the cards say so.

    Args:
        provenance: where the weights come from; the files that the state dict was read from unless given.
        max_shard_size: write shards of at most this size, as ``"5GB"``, with an index; one file unless given.

    Returns:
        where it wrote: ``target``. A warning names another model that was there, and was replaced.

    Raises:
        ArtifactError: the target is something else than an artifact, the disk is full, another process is writing
            there, or what was written does not load back equal. Nothing is left behind.
    """
    with ThreadPoolExecutor(1) as background:
        # while the artifact is written: to hash a file takes longer than to copy it
        found = background.submit(find_provenance, conversion, provenance)
        with stage_artifact(conversion, target, max_shard_size) as staged:
            source, changed = found.result()
            replaced = staged.publish(source)
    if changed:
        names = ", ".join(map(str, changed))
        warnings.warn(f"{names}: not there as it was read; the card names no source.", ConversionWarning, stacklevel=2)
    if replaced:
        warnings.warn(f"{target}: replaced {replaced}.", ConversionWarning, stacklevel=2)
    return Path(target)


@contextmanager
def stage_artifact(
    conversion: Conversion, target: str | Path, max_shard_size: str | None = None, *, is_kept: bool = True
) -> Iterator[StagedArtifact]:
    """Write a converted model beside ``target``, load it back, compare; it is gone afterwards unless published.

    Args:
        is_kept: it is likely to be published; then it is sealed while it is compared.

    Raises:
        ArtifactError: as :func:`save_artifact`.
    """
    target = Path(target).absolute()
    with _explain_io_errors(target):
        check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
    directory = _hidden(target, "staging")
    with _lock(target), ThreadPoolExecutor(1) as background:
        _recover(target)
        try:
            _check_values(conversion)
            with _explain_io_errors(target):
                directory.mkdir()
                _write(conversion, directory, max_shard_size)
                fingerprints = take_fingerprints(directory)  # before the checks: what is written later was not checked
                seal = background.submit(seal_files, directory).result if is_kept else partial(seal_files, directory)
                check_files(conversion, directory)
            load_model(directory)
            yield StagedArtifact(conversion, directory, target, fingerprints, seal)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def check_target(target: Path) -> None:
    """Check that ``target`` is free, or an artifact, which may be replaced.

    Raises:
        ArtifactError: it is anything else.
    """
    hint = "Choose another directory, or remove it yourself."
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ArtifactError(f"{target}: exists and is not a directory; it is not overwritten.", hint=hint)
    if not target.exists() or not any(target.iterdir()):
        return
    foreign = sorted(path.name for path in target.iterdir() if not is_ours(path.name))
    if foreign or find_card(target) is None:
        reasons = [f"not of an artifact: {name}" for name in foreign] or [f"no {PARITY_CARD} of this project in it"]
        raise ArtifactError(f"{target}: exists and is not an artifact; it is not overwritten.", reasons, hint)


def refuse_other(target: Path, card: Mapping[str, Any], *, is_own: bool) -> None:
    """Refuse to put a model in the place of another one that somebody has trained.

    Args:
        card: the source and the result of the model.
        is_own: it is of a checkpoint of its user's. Else it takes the place of what can be made again.

    Raises:
        ArtifactError: another one is there.
    """
    present = find_card(target)
    other = describe_other(present, card)
    if other and present and (is_own or has_own_weights(present)):
        hint = "Give this one a name of its own: --name NAME." if is_own else f"Move {target} to another place first."
        raise ArtifactError(f"{target}: another model has this name, and is not replaced: {other}.", hint=hint)


def _check_values(conversion: Conversion) -> None:
    without = [key for key, tensor in conversion.state_dict.items() if tensor.is_meta]
    if without:
        raise ArtifactError(f"{conversion.variant}: tensors on the meta device have no values to write.", without)


def _write(conversion: Conversion, directory: Path, max_shard_size: str | None) -> None:
    save_weights(conversion.state_dict, directory, max_shard_size)
    if conversion.left_out:
        save_tensors(conversion.left_out, directory / LEFT_OUT)
    _write_json(directory / CONFIG, json.loads(conversion.config.to_json_string(use_diff=True)))
    if conversion.preprocessor:
        _write_json(directory / PREPROCESSOR, conversion.preprocessor)


def _hidden(target: Path, purpose: str) -> Path:
    return target.with_name(f".{target.name}.{purpose}")


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Keep other processes from writing to the same target; the system releases the lock of a killed one."""
    lock = FileLock(_hidden(target, "lock"), timeout=0)
    with _explain_io_errors(target):
        Path(lock.lock_file).touch()  # a lock that cannot be made looks like one that another process has
        try:
            lock.acquire()
        except Timeout:
            raise ArtifactError(f"{target}: another process is writing there.", hint="Wait for it to end.") from None
    try:
        yield
    finally:
        _hidden(target, "lock").unlink(missing_ok=True)
        lock.release()


def _recover(target: Path) -> None:
    """Clear away what an interrupted run left, and put the previous artifact back if the new one was not published."""
    shutil.rmtree(_hidden(target, "staging"), ignore_errors=True)
    if not is_published(target):
        shutil.rmtree(target)
    previous = _hidden(target, "previous")
    if previous.exists() and not target.exists():
        previous.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def _explain_io_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{target}: cannot be written: {error}",
            hint="Nothing was left behind. Check free space and permissions, or choose another directory.",
        ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
