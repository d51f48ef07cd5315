"""What cannot be converted is refused with one message that says all, before anything ran or was written."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import conversion
from conversion.errors import CheckpointError, ConversionError, concerning
from conversion.intake.opening import explain_absence
from tests.support.corpus import CORPUS, BadInput
from tests.support.listed import list_files

NOBODY = 65534


@contextmanager
def without_privilege(bad: BadInput) -> Iterator[None]:
    """The superuser may read everything; what is about permission is tried as somebody else."""
    if bad is not CORPUS["a file that may not be read"] or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", CORPUS)
def test_it_is_refused_by_name_with_the_way_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, path = CORPUS[name], tmp_path / CORPUS[name].name
    bad.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = list_files(tmp_path)
    with warnings.catch_warnings(), without_privilege(bad), pytest.raises(ConversionError, match=bad.says) as raised:
        warnings.simplefilter("ignore")
        with concerning(path):
            state_dict = conversion.read_checkpoint(path, **bad.options).state_dict
            conversion.convert(state_dict, num_attention_heads=bad.num_heads)
    error = raised.value
    assert str(path) in error.headline
    assert error.hint
    assert list_files(tmp_path) == before  # nothing ran, nothing was written


def test_who_may_not_read_is_told_what_the_owner_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, path = PermissionError(13, "Permission denied"), tmp_path / "a b.pth"
    assert explain_absence(path, error).hint == f"Have its owner run: chmod a+rX '{path}'"
    monkeypatch.setattr(os, "access", lambda folder, _mode: folder not in (tmp_path, tmp_path.parent))
    assert explain_absence(path, error).hint == f"Have its owner run: chmod a+x {tmp_path.parent}"


def test_a_folder_that_may_not_be_listed_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbid)
    with pytest.raises(CheckpointError, match=r"no permission to read it.*\n.*\nHave its owner run: chmod a\+rX"):
        conversion.read_checkpoint(tmp_path)


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(CORPUS) >= 60
