"""A user's own pictures: static integers are calibrated on them, and exports are measured on them."""

from pathlib import Path

from PIL import Image

from conversion.errors import ExportError

MOST = 256
"""Pictures that are read of a folder, in the order of their names."""


def list_pictures(folder: Path) -> list[Path]:
    """The pictures that lie in a folder, by their suffixes.

    Raises:
        ExportError: there are none, or no such folder.
    """
    if not folder.is_dir():
        raise ExportError(f"--pictures {folder}: there is no such folder.")
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in suffixes]
    if not found:
        raise ExportError(
            f"--pictures {folder}: there are no pictures in it.", hint="Give a folder of .jpg or .png files."
        )
    return found[:MOST]


def open_picture(path: Path) -> Image.Image:
    """A picture, RGB.

    Raises:
        ExportError: it is none.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow raises what each format's reader does
        raise ExportError(f"{path}: cannot be read as a picture: {error}", hint="Take it out of the folder.") from error
