"""Synthetic checkpoints: seeded weights in the original's own file format, for proofs without a download.

Every tensor is drawn by itself from (seed, variant, key), so that its values depend on nothing else, and scaled so
that it matters in the output: an error in any of them must show.
"""

import fnmatch
import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from conversion.families.base import Family, Spec, load_family
from conversion.families.training import Draw, fan_in, normal, uniform
from conversion.families.variants import Variant
from conversion.mapping.key_map import StateDict
from conversion.patching import without_checksums

# the first pattern that a key matches says how its tensor is drawn; a family's own come before these
DISTRIBUTIONS: Mapping[str, Draw] = {
    "*gamma*":                        uniform(0.4, 0.7),
    "*norm*.weight":                  normal(0.1, mean=1.0),
    "*relative_position_bias_table":  normal(1.0),
    "*bias":                          normal(0.2),
    "*_token":                        normal(0.5),
    "*_tokens":                       normal(0.5),
    "*pos_embed":                     normal(0.5),
    "*weight":                        fan_in(),
}  # fmt: skip


def list_distributions(family: Family[Any]) -> dict[str, Draw]:
    """How this family's tensors are drawn: its own patterns first, then the common ones."""
    common = {pattern: draw for pattern, draw in DISTRIBUTIONS.items() if pattern not in family.training.distributions}
    return {**family.training.distributions, **common}


def seed_generator(name: str) -> Generator:
    """A random generator that depends on this name and on nothing else."""
    digest = hashlib.sha256(name.encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_tensor(name: str, key: str, like: Tensor, distributions: Mapping[str, Draw] = DISTRIBUTIONS) -> Tensor:
    """A synthetic tensor of the shape and dtype of ``like``; its values depend on name and key alone."""
    return _draw_into(torch.empty(like.shape, dtype=like.dtype), name, key, distributions)


def _draw_into(tensor: Tensor, name: str, key: str, distributions: Mapping[str, Draw]) -> Tensor:
    draw = next(draw for pattern, draw in distributions.items() if fnmatch.fnmatchcase(key, pattern))
    return draw(tensor, seed_generator(f"{name}/{key}"))


def draw_state_dict(
    family: Family[Any], spec: Spec, variant: str, seed: int, *, backbone: str | None = None
) -> dict[str, Tensor]:
    """The synthetic original state dict of a model of this spec, linear head under its prefix.

    Args:
        variant: a name that the tensors depend on.
        backbone: another one, for all but the tensors of a head in a file of its own.
    """
    state_dict = _make_room(family, spec)
    head, distributions = family.head, list_distributions(family)
    of_backbone, of_head = head.split(state_dict) if head else (state_dict, {})
    _fill(of_backbone, family.derive(spec), distributions, f"{seed}/{backbone or variant}")
    _fill(head.join({}, of_head) if head else {}, {}, distributions, f"{seed}/{variant}")
    return state_dict


def _make_room(family: Family[Any], spec: Spec) -> dict[str, Tensor]:
    """Tensors of the right shapes, whose memory is not taken before they are drawn; one where the original has one."""
    room = {key: torch.empty_like(like, device="cpu") for key, like in family.original_tensors(spec).items()}
    return room | family.derive(spec)


def _fill(state_dict: StateDict, derived: StateDict, distributions: Mapping[str, Draw], name: str) -> None:
    """Fill every tensor in its place: derived ones with their values, each other one by a generator of its own."""

    def fill(key: str) -> None:
        if key in derived:
            state_dict[key].copy_(derived[key])
        else:
            _draw_into(state_dict[key], name, key, distributions)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # drawing releases the interpreter lock
        list(pool.map(fill, state_dict))


def write_synthetic_checkpoint(variant: Variant, directory: Path, seed: int) -> dict[str, Path]:
    """Write a variant's files as the original makes them: float32, ``torch.save``.

    The backbone's file of a model whose head is a file of its own is the backbone variant's. Tensors are drawn where
    they lie in the file, so that no memory is taken beside it.

    Returns:
        role (``"checkpoint"``, and that of a head) to path; file names are the official ones.
    """
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    paths = {role: directory / url.rpartition("/")[2] for role, url in variant.files.items()}
    room = _make_room(family, spec)
    head = family.head if family.head and family.head.role in paths else None
    backbone, of_head = head.split(room) if head else (room, {})
    entry = family.training.choose_entry(spec)
    distributions = list_distributions(family)
    with ExitStack() as stack:
        content = stack.enter_context(_written(family.training.pack(spec, backbone), paths["checkpoint"]))
        drawn = content[entry] if entry else content
        _fill(drawn, family.derive(spec), distributions, f"{seed}/{variant.backbone}")
        if head:
            content = stack.enter_context(_written(head.pack(of_head), paths[head.role]))
            drawn = content[head.entry] if head.entry else content
            _fill(head.join({}, drawn), {}, distributions, f"{seed}/{variant.name}")
    return paths


@contextmanager
def _written(content: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """A file of this content, and what is in it: what is done to its tensors is done in the file."""
    if os.name == "nt":  # where torch maps no file to be written to
        yield content
        with without_checksums():
            torch.save(content, path)
        return
    with torch.serialization.skip_data(), without_checksums():
        torch.save(content, path)
    if hasattr(os, "posix_fallocate"):  # or a full disk would kill the process, once something is written there
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        yield torch.load(path, mmap=True, weights_only=True)
