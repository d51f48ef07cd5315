"""How much of each variant a run verifies: all, or all blocks on smaller images, or a few blocks of full width."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import takewhile
from types import MappingProxyType

from conversion.families.base import load_family
from conversion.families.variants import VARIANTS, Variant
from conversion.families.vit import BESIDE_CONFIG
from conversion.suite.memory import measure_memory
from conversion.suite.settings import Request

FEW = 2
"""Blocks of a shortened variant: a first and a last. All blocks of a model are alike."""

FEATURES = 4
"""Blocks of a shortened variant whose head works on maps: as many as the head sees."""

WIDEST = 2048
"""Of a variant that is wider, one block is enough: of DINOv3's largest it has 0.7 GB."""

SMALL, SMALL_MAPS = 224, 64
"""Side in pixels of a shortened model's native images: 518 or 224 else. The second, brought down to whole patches, is
that of a model whose head works on maps, for segmentation or depth: 512 to 640 else."""

BESIDE_MODEL = BESIDE_CONFIG | {"image_size"}
"""What two variants may have otherwise, and be the same model: what is done to images, and their size."""

DEEP = 12
"""Blocks of the small and base models, all of which are verified."""

NARROW = 384
"""Width of the small models, which are verified on native images of any size; wider ones differ from them in width and
heads alone, and have images of 224 pixels at most."""


def choose_row(name: str, request: Request) -> Variant | None:
    """The variant as this run verifies it; None of a model that is no official one.

    Where nothing is said of it, a large variant is shortened, and one that is the same model as another; a base model
    of large images gets smaller ones. It is verified whole if it is named by ``-k``, or with ``--all``, and where its
    own weights are read or the artifact is kept.
    """
    row = VARIANTS.get(name)
    return row if row is None or is_whole(row, request) else shorten(row)


def is_whole(row: Variant, request: Request) -> bool:
    """Whether a run verifies a variant as it is; of synthetic weights only what the machine can map."""
    is_asked_for = (request.is_all or is_named(row.name, request.keyword)) and is_mappable(row)
    is_needed = request.checkpoint is not None or request.weights != "synthetic" or request.artifacts is not None
    return is_asked_for or is_needed or not (is_large(row.spec) or has_large_images(row.spec) or has_twin(row))


def is_mappable(row: Variant) -> bool:
    """Whether a file of all its blocks can be mapped into the memory of this machine."""
    memory = measure_memory()
    return memory is None or not is_widest(row.spec) or count_bytes(row.name) < memory


def is_widest(spec: Mapping[str, object]) -> bool:
    """Whether a few blocks are gigabytes already."""
    return _read_int(spec, "embed_dim") > WIDEST


@cache
def count_bytes(name: str) -> int:
    """The size of a variant's file of float32."""
    family = load_family(VARIANTS[name].family)
    return sum(tensor.nbytes for tensor in family.original_tensors(family.spec_of(VARIANTS[name])).values())


def is_large(spec: Mapping[str, object]) -> bool:
    """Whether the whole model takes minutes: more blocks than a base model has, or a head's large maps."""
    return _read_int(spec, "depth") > DEEP or has_maps(spec)


def has_large_images(spec: Mapping[str, object]) -> bool:
    """Whether its native images take long, and a small model proves what depends on their size."""
    return _read_int(spec, "embed_dim") > NARROW and _read_int(spec, "image_size") > SMALL


def has_maps(spec: Mapping[str, object]) -> bool:
    """Whether its head works on maps of four blocks' outputs, for segmentation or depth."""
    return "out_indices" in spec


def has_twin(row: Variant) -> bool:
    """Whether another variant, before this one in the table, is the same model, if both are shortened.

    They may have other images; or, where both have some, another number of classes, which is the length of one tensor's
    rows, or another largest depth, which is one factor.
    """
    before = takewhile(lambda other: other.name != row.name, VARIANTS.values())
    model = _describe_cut(row)
    return any(other.family == row.family and _describe_cut(other) == model for other in before)


def _describe_cut(row: Variant) -> dict[str, object]:
    spec = _cut(row, count_blocks(row.spec))
    numbers = {field: bool(spec.get(field)) for field in ("num_classes", "max_depth")}
    return {field: value for field, value in {**spec, **numbers}.items() if field not in BESIDE_MODEL}


def is_named(name: str, keyword: str) -> bool:
    """Whether an expression of ``-k`` has a part of this variant's name in it, without a ``not`` before it.

    A part begins where a word of the name does: ``vits14`` and ``reg`` are parts, ``layer`` and ``s14`` are not.
    """
    words = re.findall(r"(\bnot\s+)?([^\s()]+)", keyword)
    return any(
        not negation and f"_{word.lower()}" in f"_{name}-" for negation, word in words if word not in ("and", "or")
    )


def is_as_deep(row: Variant | None, other: Variant | None) -> bool:
    """Whether two variants have as many blocks, as this run verifies them."""
    return row is not None and other is not None and row.spec["depth"] == other.spec["depth"]


def describe_extent(row: Variant | None) -> str:
    """Which blocks of a variant are verified, and on which images, in words; empty of a whole one."""
    if row is None or row == VARIANTS[row.name]:
        return ""
    spec = VARIANTS[row.name].spec
    blocks, side = row.spec["depth"], row.spec["image_size"]
    size = f", {side} x {side} pixels" if spec["image_size"] != side else ""
    memory = f", where {count_bytes(row.name) / 1e9:.0f} GB fit into memory" if is_widest(spec) else ""
    if blocks == spec["depth"]:
        return f"all blocks{size}; whole with --all or -k {row.name}"
    return f"{blocks} of {spec['depth']} blocks, of full width{size}; whole with --all or -k {row.name}{memory}"


def shorten(row: Variant) -> Variant:
    """Shorten a variant: same width, smaller images. A large one keeps a few blocks, one that has a twin keeps one."""
    spec = _cut(row, 1 if has_twin(row) else count_blocks(row.spec))
    return replace(row, spec=MappingProxyType(spec), slow=False)


def count_blocks(spec: Mapping[str, object]) -> int:
    """How many blocks a shortened variant has."""
    if not is_large(spec):
        return _read_int(spec, "depth")
    return FEATURES if has_maps(spec) else 1 if is_widest(spec) else FEW


def _cut(row: Variant, blocks: int) -> dict[str, object]:
    spec = row.spec
    if has_maps(spec):  # one feature of each block; most of the work lies in the head, by the size of maps
        patch_size = _read_int(spec, "patch_size")
        side = SMALL_MAPS // patch_size * patch_size
        features = {"depth": FEATURES, "out_indices": tuple(range(FEATURES)), "image_size": side}
        return {**spec, **features, **({"input_size": side} if row.family == "depth_anything" else {})}
    return {**spec, "depth": blocks, "image_size": SMALL}


def _read_int(spec: Mapping[str, object], field: str) -> int:
    value = spec[field]
    assert isinstance(value, int)
    return value
