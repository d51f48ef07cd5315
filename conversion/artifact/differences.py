"""How the tensors of a folder differ from those that a conversion gives, by name, in both directions."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from conversion.artifact.weights import find_main_file, read_tensors
from conversion.families.base import load_family
from conversion.intake.restored import read_weights
from conversion.mapping import key_map
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.filled import fill_in
from conversion.state_dicts.folder import LEFT_OUT, read_left_out
from conversion.state_dicts.in_memory import name_as_in_files
from conversion.state_dicts.restore import find_majors

ROUNDED = "rounded by up to"
"""How a line says that all in which tensors differ is their rounding."""

ALIKE = "--save-dtype {} rounds the original alike"
"""How a line names the dtype, where it is known."""

ALL_ROUNDED = re.compile(r"^(\d+) of \1 tensors .*" + ALIKE.format(r"(\w+)") + "$")
"""The only line where every tensor is rounded to one dtype."""


def list_tensor_differences(conversion: Conversion, directory: Path) -> list[str]:
    """Every tensor of a folder that is not what the conversion gives, a line each, with the original's key.

    Args:
        directory: in the layout of transformers, of either major version.
    """
    family, found = load_family(conversion.family), read_found(directory)
    majors = find_majors(family, conversion.spec, found)
    table = family.expand_key_map(conversion.spec, majors[-1] if majors else None)
    filled = fill_in(family, conversion.spec, conversion.source, majors[-1] if majors else None)
    expected = key_map.convert(conversion.source, table) | filled
    origins = {name: key for key, names in table.items() for name in names}
    origins |= dict.fromkeys(filled, "what the original lacks, filled in")
    missing = [f"missing: {name}, from {origins[name]}" for name in expected if name not in found]
    derived = family.derive(conversion.spec)
    others = [name for name in found if name not in expected and not is_derived(name, found[name], derived)]
    foreign = [f"foreign: {name}, which the original has nothing for" for name in others]
    roundings = {name: find_rounding(expected[name], found[name]) for name in expected if name in found}
    casts = {name: dtype for name, dtype in roundings.items() if dtype is not None}
    return [*missing, *foreign, *_describe_casts(expected, found, casts), *_describe(expected, found, origins, casts)]


def list_left_out_differences(conversion: Conversion, directory: Path) -> list[str]:
    """Every tensor that a folder keeps beside its model and that is not the original's, a line each; it need keep none.

    A rounding is no line: that of the model's own tensors is one.
    """
    found, expected = read_left_out(directory), conversion.left_out
    lines = [f"missing in {LEFT_OUT}: {key}" for key in expected if found and key not in found]
    for key, tensor in found.items():
        if key not in expected:
            lines.append(f"foreign in {LEFT_OUT}: {key}, which the original has nothing for")
        elif not is_bit_equal(expected[key], tensor) and find_rounding(expected[key], tensor) is None:
            lines.append(f"{LEFT_OUT}: {key} is not the original's")
    return lines


def find_rounding_of_all(lines: Sequence[str]) -> str | None:
    """Find the dtype that every tensor is rounded to, by the lines of :func:`list_tensor_differences`; None if none."""
    found = ALL_ROUNDED.match(lines[0]) if len(lines) == 1 else None
    return found[2] if found else None


def read_found(directory: Path) -> dict[str, Tensor]:
    """The tensors that ``from_pretrained`` takes: those in safetensors where there are such, else the pickled ones."""
    found = read_tensors(directory) if find_main_file(directory).exists() else read_weights(directory)
    return name_as_in_files(found)[0]


def is_derived(name: str, tensor: Tensor, derived: Mapping[str, Tensor]) -> bool:
    """Whether a tensor is one that follows from the model's size, which older versions of transformers wrote, too."""
    last = name.rpartition(".")[2]
    return any(key.rpartition(".")[2] == last and is_bit_equal(value, tensor) for key, value in derived.items())


def find_rounding(expected: Tensor, found: Tensor) -> torch.dtype | None:
    """The dtype that a tensor was rounded to, whatever it is stored in; None where it differs otherwise, or not."""
    dtypes = [found.dtype] if found.dtype != expected.dtype else [torch.bfloat16, torch.float16]
    if expected.shape != found.shape or is_bit_equal(expected, found):
        return None
    return next((dtype for dtype in dtypes if is_bit_equal(expected.to(dtype).to(found.dtype), found)), None)


def _describe_casts(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], casts: Mapping[str, torch.dtype]
) -> Iterator[str]:
    """One line for all tensors that were rounded alike, which are mostly all."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for name, dtype in casts.items():
        own, wanted, rounded = (
            str(each).removeprefix("torch.") for each in (found[name].dtype, expected[name].dtype, dtype)
        )
        kinds.setdefault((own, wanted, rounded), []).append(name)
    for (own, wanted, rounded), names in sorted(kinds.items()):
        off = max(float((expected[name].double() - found[name].double()).abs().max()) for name in names)
        are = f"{own}, the original's {wanted}" if own != wanted else f"{own} with values of {rounded}"
        way = f"; {ALIKE.format(rounded)}" if own == rounded else ""
        yield f"{len(names)} of {len(expected)} tensors are {are}: {ROUNDED} {off:.2g}{way}"


def _describe(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], origins: Mapping[str, str], casts: Container[str]
) -> Iterator[str]:
    for name in expected:
        if name not in found or name in casts or is_bit_equal(expected[name], found[name]):
            continue
        own, wanted = found[name], expected[name]
        where = f"{name}, from {origins[name]}"
        if own.shape != wanted.shape:
            yield f"{where}: {tuple(own.shape)}, the original gives {tuple(wanted.shape)}"
            continue
        off = float((own.double() - wanted.double()).abs().max())
        cause = explain(own, wanted, expected)
        yield f"{where}: off by up to {off:.2g}{f'; {cause}' if cause else ''}"


def explain(own: Tensor, wanted: Tensor, expected: Mapping[str, Tensor]) -> str:
    """What a tensor is in place of what it should be, if that is known; empty if it is not."""
    own = own.to(wanted.dtype)
    if not own.any():
        return "it is all zeros"
    alike = (name for name, other in expected.items() if other.shape == own.shape and other.dtype == own.dtype)
    if name := next((name for name in alike if is_bit_equal(expected[name], own)), None):
        return f"it is that of {name}"
    if own.ndim == 2 and own.shape[0] == own.shape[1] and is_bit_equal(own, wanted.T.contiguous()):
        return "it is transposed"
    if own.ndim and bool((own.flatten().sort().values == wanted.flatten().sort().values).all()):
        return "it has the same values in another order"
    return ""
