"""What cannot be converted is refused with one message that says all, before anything ran or was written."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import conversion
from conversion.errors import CheckpointError, ConversionError, concerning
from conversion.intake.absence import explain_absence
from tests.support.corpus import CORPUS, BadInput
from tests.support.corpus.making import PICKLED
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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "dinov2_vits14",
            "no such file.\nAn official variant is not given by its name here: convert it, or give its file.",
        ),
        ("runs/today/last.pth", "no such file or folder.\nCheck its path."),
        ("https://example.org/last.pth", "no such file or folder.\nDownload it, and give the file."),
        (
            "facebook/dinov2-small",
            "no such file or folder.\nCheck its path. Of a repository on the Hub, give FOLDER: "
            "hf download facebook/dinov2-small --local-dir FOLDER",
        ),
    ],
)
def test_what_is_no_path_is_known_by_its_form(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        conversion.read_checkpoint(name)
    assert str(raised.value).endswith(f": there is {says}")


@pytest.mark.parametrize("closed", ["a", "a/inner"])
def test_a_folder_that_may_not_be_listed_is_passed_over(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_others(folder: Path) -> Iterator[Path]:
        if folder == tmp_path / closed:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    listed = Path.iterdir
    for name in ("a/inner", "b/inner"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "inner" / "last.ckpt").write_bytes(PICKLED)
    monkeypatch.setattr(Path, "iterdir", list_others)
    with pytest.raises(CheckpointError, match=r"some in its subfolders\.\n  - b/inner/\nGive one of these.*/b/inner$"):
        conversion.read_checkpoint(tmp_path)


def test_a_folder_that_may_not_be_listed_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbid)
    with pytest.raises(CheckpointError, match=r"no permission to read it.*\n.*\nHave its owner run: chmod a\+rX"):
        conversion.read_checkpoint(tmp_path)


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(CORPUS) >= 60
