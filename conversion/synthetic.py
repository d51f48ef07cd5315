"""Synthetic checkpoints: seeded weights in the original's own file format, for proofs without a download.

Every tensor is drawn by itself from (seed, variant, key), so that its values depend on nothing else, and scaled so
that it matters in the output: an error in any of them must show.
"""

import fnmatch
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from conversion.distributions import Draw, fan_in, normal, uniform
from conversion.family import Family, Spec, load_family
from conversion.state_dict import HEAD_PREFIX
from conversion.variants import Variant

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
    common = {pattern: draw for pattern, draw in DISTRIBUTIONS.items() if pattern not in family.distributions}
    return {**family.distributions, **common}


def seed_generator(name: str) -> Generator:
    """A random generator that depends on this name and on nothing else."""
    digest = hashlib.sha256(name.encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_tensor(name: str, key: str, like: Tensor, distributions: Mapping[str, Draw] = DISTRIBUTIONS) -> Tensor:
    """A synthetic tensor of the shape and dtype of ``like``; its values depend on name and key alone."""
    draw = next(draw for pattern, draw in distributions.items() if fnmatch.fnmatchcase(key, pattern))
    return draw(torch.empty(like.shape, dtype=like.dtype), seed_generator(f"{name}/{key}"))


def draw_state_dict(
    family: Family[Any], spec: Spec, variant: str, seed: int, *, backbone: str | None = None
) -> dict[str, Tensor]:
    """The synthetic original state dict of a model of this spec, linear head under its prefix.

    Args:
        variant: a name that the tensors depend on.
        backbone: another one, for all but the linear head's.
    """
    derived = family.derive(spec)
    distributions = list_distributions(family)

    def draw(key: str, like: Tensor) -> Tensor:
        owner = variant if key.startswith(HEAD_PREFIX) or backbone is None else backbone
        return derived[key] if key in derived else draw_tensor(f"{seed}/{owner}", key, like, distributions)

    like = family.original_tensors(spec)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # drawing releases the interpreter lock
        return dict(zip(like, pool.map(draw, like.keys(), like.values()), strict=True))


def write_synthetic_checkpoint(variant: Variant, directory: Path, seed: int) -> dict[str, Path]:
    """Write a variant's files as the original makes them: float32, ``torch.save``.

    A ``_1layer`` classifier's backbone file is the backbone variant's own.

    Returns:
        role (``"checkpoint"``, ``"linear_head"``) to path; file names are the official ones.
    """
    family = load_family(variant.family)
    spec = family.spec_of(variant)
    state_dict = draw_state_dict(family, spec, variant.name, seed, backbone=variant.backbone)
    head = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(HEAD_PREFIX)}
    paths = {role: directory / url.rpartition("/")[2] for role, url in variant.files.items()}
    _save(family.pack(spec, state_dict), paths["checkpoint"])
    if head:
        _save({key.removeprefix(HEAD_PREFIX): tensor for key, tensor in head.items()}, paths["linear_head"])
    return paths


def _save(content: Mapping[str, object], path: Path) -> None:
    # the archive's checksums take as long as all the rest, and no reader of torch looks at them
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, path)
    finally:
        torch.serialization.set_crc32_options(before)
