"""Which exports can be asked for: runtimes, precisions, and the files that each becomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from conversion.errors import ExportError

INT8, INT8_STATIC = "int8", "int8-static"
INTEGERS = (INT8, INT8_STATIC)
"""Precisions of weights that are no dtype of the original: it is run in float32."""

SUFFIXES = {"float32": "", "float16": "_fp16", "bfloat16": "_bf16", INT8: "_int8", INT8_STATIC: "_int8_static"}
"""Of a file's name, by precision, in the manner of the Hub."""


@dataclass(frozen=True)
class Runtime:
    """What runs an exported model.

    Attributes:
        folder: of the artifact, that its files lie in.
        stem, suffix: of the main file.
        packages: that have to be installed.
        precisions: that it runs, the first unless told otherwise.
    """

    folder: str
    stem: str
    suffix: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]


RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime("onnx", "model", ".onnx", ("onnx", "onnxscript", "onnxruntime"), ("float32", "float16", *INTEGERS)),
    "openvino": Runtime(
        "openvino", "openvino_model", ".xml", ("onnx", "onnxscript", "openvino"), ("float32", "float16")
    ),
    "torch": Runtime("exported", "model", ".pt2", (), ("float32", "float16", "bfloat16")),
}

FOLDERS = tuple(runtime.folder for runtime in RUNTIMES.values())
"""Of an artifact, that hold what its model was exported to, in the manner of the Hub."""


@dataclass(frozen=True)
class Export:
    """A runtime and a precision.

    Attributes:
        runtime: a key of :data:`RUNTIMES`.
        precision: of the weights.
    """

    runtime: str
    precision: str

    @property
    def label(self) -> str:
        """Where a cell of the matrix has its attention implementation: ``onnx``, ``onnx:int8``."""
        return f"{self.runtime}:{self.precision}" if self.may_lose else self.runtime

    @property
    def dtype(self) -> str:
        """The name of the torch dtype that the original is run in, to be compared with."""
        return "float32" if self.may_lose else self.precision

    @property
    def cell(self) -> tuple[str, str, str]:
        """Of the matrix; every export runs on the CPU."""
        return "cpu", self.dtype, self.label

    @property
    def file(self) -> str:
        """The main file, relative to the artifact."""
        runtime = RUNTIMES[self.runtime]
        return f"{runtime.folder}/{runtime.stem}{SUFFIXES[self.precision]}{runtime.suffix}"

    @property
    def may_lose(self) -> bool:
        """Whether it was asked for knowing that it is less precise: integers cannot be the same."""
        return self.precision in INTEGERS


def parse_export(text: str) -> Export:
    """Read ``onnx``, or with a precision ``onnx:int8``.

    Raises:
        ValueError: there is no such runtime, or it has no such precision.
    """
    name, _, precision = text.partition(":")
    if name not in RUNTIMES:
        raise ValueError(f"{name!r} is none of {', '.join(RUNTIMES)}")
    known = RUNTIMES[name].precisions
    if precision and precision not in known:
        raise ValueError(f"{name} runs {', '.join(known)}, not {precision!r}")
    return Export(name, precision or known[0])


NOT_AS_ASKED = "an export is not what was asked for"
"""What is said of a model that is the same, where an export of it failed, or lost more than it may."""


def find_export(cell: tuple[str, str, str]) -> Export | None:
    """The export of a cell of the matrix; None of an attention implementation."""
    _, dtype, label = cell
    name, _, precision = label.partition(":")
    return Export(name, precision or dtype) if name in RUNTIMES else None


def list_exported(directory: Path) -> dict[str, Path]:
    """List the files that an artifact's model was exported to, by their names relative to it."""
    listed = (path for folder in FOLDERS for path in sorted((directory / folder).rglob("*")))
    found = [path for path in listed if path.is_file() or path.is_symlink()]  # no card speaks of a link
    return {path.relative_to(directory).as_posix(): path for path in found}


def is_exported(name: str) -> bool:
    """Whether a file of an artifact may have this name, relative to it, and be what its model was exported to."""
    folder, *below = PurePosixPath(name).parts
    return folder in FOLDERS and bool(below) and ".." not in below


def check_asked(
    exports: Sequence[Export],
    *,
    bounds: object = (),
    opset: int | None = None,
    normalizes: object = False,
    pictures: object = None,
) -> None:
    """Check that options of exports go together, and that the runtimes are installed.

    Raises:
        ExportError: they do not, or are not.
    """
    of_exports = {"--require": bounds, "--opset": opset is not None, "--normalize": normalizes, "--pictures": pictures}
    given = [option for option, value in of_exports.items() if value]
    if given and not exports:
        raise ExportError(f"{', '.join(given)}: needs --export.", hint="Give --export onnx, openvino or torch, too.")
    if opset is not None and all(export.runtime != "onnx" for export in exports):
        hint = "Leave it out, or give --export onnx, too."
        raise ExportError("--opset applies to an export to ONNX, and none is asked for.", hint=hint)
    if pictures is None and any(export.precision == INT8_STATIC for export in exports):
        hint = "Give some like those that the model is for: --pictures FOLDER."
        raise ExportError(
            f"--export onnx:{INT8_STATIC}: the ranges of activations are measured on pictures.", hint=hint
        )
    check_installed(exports)


def check_installed(exports: Iterable[Export]) -> None:
    """Check that all packages are there, without importing them.

    Raises:
        ExportError: with those that are not, and how to have them.
    """
    names = dict.fromkeys(name for export in exports for name in RUNTIMES[export.runtime].packages)
    absent = [name for name in names if find_spec(name) is None]
    if absent:
        asked = " ".join(dict.fromkeys(f"--export {export.label}" for export in exports))
        hint = f"Install it: pip install {' '.join(absent)}."
        raise ExportError(f"{asked}: not installed: {', '.join(absent)}.", hint=hint)
