"""What lies in a folder."""

from pathlib import Path


def list_names(folder: Path) -> list[str]:
    """The names directly in it."""
    return sorted(path.name for path in folder.iterdir())


def list_files(folder: Path) -> dict[str, int]:
    """All that is in it and in its subfolders, each with its size."""
    return {str(path.relative_to(folder)): path.lstat().st_size for path in folder.rglob("*")}
