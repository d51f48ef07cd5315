"""BEiT: models with synthetic weights, converted, and held against the bundled original."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import load_family
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs
from conversion.parity.verify import InputVerdict
from tests.support.golden import NORMALISATION
from tests.support.runs import verify_input

FAMILY = load_family("beit")


def draw(spec: Any) -> dict[str, Tensor]:
    return draw_state_dict(FAMILY, spec, "tiny", 0)


def convert(state_dict: Mapping[str, Tensor], **settings: object) -> conversion.Conversion:
    return conversion.convert(state_dict, **{"family": "beit", **NORMALISATION, **settings})


def verify(
    out: conversion.Conversion, original: nn.Module | None = None, dtype: str = "float32", attention: str = "eager"
) -> InputVerdict:
    """Verify on one image, with the deviations of the ledger unless an original is given."""
    side = out.spec.image_size
    inputs = Inputs(torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)))
    deviation = None if original else FAMILY.find_deviation(out.spec, (1, 3, side, side), dtype, attention)
    original = original or FAMILY.load_original(out.spec, out.source)
    run = OriginalRun(original, FAMILY.list_stages(out.spec), inputs, getattr(torch, dtype))
    return verify_input("native", run, load_converted(out, attention=attention, dtype=dtype), deviation)
