"""A checkpoint is read once by a command: of one that is no memory-mapped file, reading takes all its bytes."""

from pathlib import Path

import pytest
import torch

from conversion.cli.app import main
from conversion.suite import reading
from conversion.suite.axes import read_variants
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import list_options, read_golden

TOLD = list_options("dinov2_tiny")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the checkpoints that are read, one each time."""
    names, read = list[str](), reading.read_checkpoint

    def read_noted(path: str | Path, **options: object) -> object:
        names.append(Path(path).name)
        return read(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_checkpoint", read_noted)
    return names


def write(folder: Path) -> Path:
    path = folder / "tiny.pth"
    torch.save(read_golden("dinov2_tiny").backbone, path, _use_new_zipfile_serialization=False)
    return path


def test_a_command_reads_each_checkpoint_once(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert main(["convert", "tiny.pth", "-o", "converted", *TOLD]) == 0
    assert opened == ["tiny.pth"]
    assert main(["compare", "tiny.pth", "converted", *TOLD]) == 0
    assert opened == ["tiny.pth"] * 2
    assert main(["verify", "converted", "--deep"]) == 0
    assert opened == [*["tiny.pth"] * 2, "converted"]


def test_what_was_not_read_to_choose_a_variant_is_read_when_it_is_needed(opened: list[str], tmp_path: Path) -> None:
    request = Request(checkpoint=write(tmp_path), variant="dinov2_vits14")
    specs, read = read_variants(request)
    assert (list(specs), read, opened) == (["dinov2_vits14"], {}, [])
    subject = Subject("dinov2_vits14", request, given=read)
    assert subject.checkpoints["checkpoint"].path == request.checkpoint
    assert opened == ["tiny.pth"]
