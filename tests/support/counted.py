"""Bytes that are read of a folder's files, as they are counted while they are read."""

from pathlib import Path
from typing import IO, Any

import pytest


class Count:
    """How many bytes were read of the files in a folder."""

    def __init__(self) -> None:
        self.size = 0


class CountedFile:
    """A file that counts what is read of it."""

    def __init__(self, file: IO[bytes], count: Count) -> None:
        self.file, self.count = file, count

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(size)
        self.count.size += len(content)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "CountedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def count_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Count what is read of a folder's files from now on."""
    count, opened = Count(), Path.open

    def open_counted(path: Path, *args: Any, **kwargs: Any) -> Any:
        file: Any = opened(path, *args, **kwargs)
        return CountedFile(file, count) if path.is_relative_to(folder) else file

    monkeypatch.setattr(Path, "open", open_counted)
    return count
