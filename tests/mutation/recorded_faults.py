"""The 1,232 faults of a full-size ViT-S of which the official converters' rule notices 55.7 %."""

from dataclasses import replace

from conversion.families.base import load_family, tell_settings
from conversion.families.variants import VARIANTS
from tests.mutation.fault_lists import list_injections
from tests.mutation.injection import FaultyModel, Injection

SMALL = 98
"""Side of the images for the full-size model, in pixels: few patches, through the same tensors."""

RECORDED = {
    "zeroed": 223,
    "one element off by 10 % of a standard deviation": 223,
    "cast through bfloat16": 223,
    "cast through float16": 223,
    "tensor of another block": 216,
    "transposed": 48,
    "q, k or v exchanged": 72,
    "config": 4,
}
"""How many there are of each kind."""

RECORDED_SETTINGS = ("eps 1e-12", "eps 1e-5", "twice the heads", "tanh GELU")
"""The faults of the config among them."""


def build_full_size() -> FaultyModel:
    """A ViT-S of full size."""
    row = VARIANTS["dinov2_vits14"]
    family = load_family(row.family)
    spec = replace(family.spec_of(row), image_size=SMALL)
    return FaultyModel(row.name, family, spec, tell_settings(family, spec))


def list_recorded(faulty_model: FaultyModel) -> list[Injection]:
    """The recorded faults, under their recorded kinds."""
    named = [(name_as_recorded(injection), injection) for injection in list_injections(faulty_model)]
    return [replace(injection, kind=kind) for kind, injection in named if kind]


def name_as_recorded(injection: Injection) -> str:
    """The kind of recorded fault that this is, empty if it is none of them."""
    kind, where = injection.kind, injection.where
    if kind.startswith("config: "):
        return "config" if kind.removeprefix("config: ") in RECORDED_SETTINGS else ""
    if kind == "targets exchanged, within a block":
        ends = [name.split(".")[-2:] for name in where.split(" and ")]
        are_projections = all(module in ("query", "key", "value") for module, _ in ends)
        return "q, k or v exchanged" if are_projections and ends[0][1] == ends[1][1] else ""
    return kind if kind in RECORDED else ""
