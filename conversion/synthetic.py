"""Synthetic checkpoints: seeded weights in the original's own file format, for proofs without a download.

Every tensor is drawn by itself from (seed, variant, key), so that its values depend on nothing else, and scaled so
that it matters in the output: an error in any of them must show.
"""

import fnmatch
import hashlib
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Generator, Tensor

from conversion.family import load_family
from conversion.state_dict import HEAD_PREFIX
from conversion.variants import Variant

Draw = Callable[[Tensor, Generator], Tensor]


def _normal(std: float, mean: float = 0.0) -> Draw:
    return lambda tensor, generator: tensor.normal_(mean, std, generator=generator)


def _fan_in(tensor: Tensor, generator: Generator) -> Tensor:
    return tensor.normal_(0.0, 1 / math.sqrt(tensor[0].numel()), generator=generator)


# the first pattern that a key matches says how its tensor is drawn
DISTRIBUTIONS: Mapping[str, Draw] = {
    "*gamma*":                        lambda tensor, generator: tensor.uniform_(0.4, 0.7, generator=generator),
    "*norm*.weight":                  _normal(0.1, mean=1.0),
    "*relative_position_bias_table":  _normal(1.0),
    "*bias":                          _normal(0.2),
    "*_token":                        _normal(0.5),
    "*_tokens":                       _normal(0.5),
    "pos_embed":                      _normal(0.5),
    "*weight":                        _fan_in,
}  # fmt: skip


def seed_generator(name: str) -> Generator:
    """A random generator that depends on this name and on nothing else."""
    digest = hashlib.sha256(name.encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_tensor(seed: int, variant: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """The synthetic tensor of this key, float32."""
    draw = next(draw for pattern, draw in DISTRIBUTIONS.items() if fnmatch.fnmatchcase(key, pattern))
    return draw(torch.empty(shape), seed_generator(f"{seed}/{variant}/{key}"))


def draw_state_dict(shapes: Mapping[str, tuple[int, ...]], variant: str, seed: int) -> dict[str, Tensor]:
    """A synthetic state dict with these keys and shapes."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # drawing releases the interpreter lock
        tensors = pool.map(lambda key: draw_tensor(seed, variant, key, shapes[key]), shapes)
        return dict(zip(shapes, tensors, strict=True))


def write_synthetic_checkpoint(variant: Variant, directory: Path, seed: int) -> dict[str, Path]:
    """Write a variant's files as the original publishes them: flat float32 state dicts, ``torch.save``.

    A ``_1layer`` classifier's backbone file is the backbone variant's own.

    Returns:
        role (``"backbone"``, ``"linear_head"``) to path; file names are the official ones.
    """
    family = load_family(variant.family)
    shapes = family.original_shapes(family.spec_of(variant))
    parts = {
        "backbone": (
            variant.backbone,
            {key: shape for key, shape in shapes.items() if not key.startswith(HEAD_PREFIX)},
        ),
        "linear_head": (variant.name, {key: shape for key, shape in shapes.items() if key.startswith(HEAD_PREFIX)}),
    }
    paths = {}
    for role, url in variant.files.items():
        owner, part = parts[role]
        state_dict = draw_state_dict(part, owner, seed)
        paths[role] = directory / url.rpartition("/")[2]
        _save({key.removeprefix(HEAD_PREFIX): tensor for key, tensor in state_dict.items()}, paths[role])
    return paths


def _save(state_dict: Mapping[str, Tensor], path: Path) -> None:
    # the archive's checksums take as long as all the rest, and no reader of torch looks at them
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state_dict, path)
    finally:
        torch.serialization.set_crc32_options(before)
