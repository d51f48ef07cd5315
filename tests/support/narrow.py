"""Random small models: a spec and weights that follow from a seed, converted and loaded; and how they are verified."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import Family, Spec, load_family, tell_settings
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.dinov2.config import Dinov2Spec
from conversion.intake.synthetic import draw_state_dict, seed_generator
from conversion.parity.compare import Local
from conversion.parity.verify import Candidate, InputPlan, InputVerdict, verify_together
from conversion.suite.inputs import InputCase, list_inputs
from tests.support.golden import NORMALISATION, choose_inexact_attention
from tests.support.runs import run_original

WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
LARGEST = 112
"""Native side, in pixels."""


def draw_spec(seed: int) -> tuple[str, Spec]:
    """A family's name and the spec of a small model."""
    pick = random.Random(seed)
    width, patch = pick.choice(WIDTHS), pick.randint(2, 16)
    size = patch * pick.randint(1, min(8, LARGEST // patch))
    heads = pick.choice([heads for heads in range(1, 5) if width % heads == 0])
    depth, num_classes = pick.randint(1, 3), pick.choice((0, 2, 10))
    common: dict[str, Any] = {
        "embed_dim": width, "depth": depth, "num_heads": heads, "patch_size": patch, "image_size": size,
    }  # fmt: skip
    if pick.random() < 0.6:
        ffn = pick.choice(("mlp", "swiglu"))
        registers = pick.randint(0, 4)
        spec = Dinov2Spec(**common, ffn=ffn, num_register_tokens=registers, num_classes=num_classes)
        # as the official models
        told = {"interpolate_offset": 0.0 if registers else 0.1, "interpolate_antialias": bool(registers)}
        return "dinov2", replace(spec, **told)
    is_shared = pick.random() < 0.5
    features: dict[str, Any] = {"task": "backbone", "mask_token": True}
    if num_classes:
        features = {"task": "image-classification", "mean_pooling": pick.random() < 0.7, "num_classes": num_classes}
    features |= {"shared_position_bias": is_shared, "block_position_bias": not is_shared}
    return "data2vec_vision", Data2VecVisionSpec(**common, hidden_dim=4 * width, **features)


def _leave(tensor: Tensor, _: torch.Generator) -> Tensor:
    return tensor


def _thin_out(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return tensor * (torch.rand(tensor.shape, generator=generator) < 0.1)


def _put_outliers(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(tensor.shape, generator=generator) < 0.02, tensor * 1e4, tensor)


def _put_denormals(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(tensor.shape, generator=generator) < 0.3, tensor * 1e-40, tensor)


def _zero_layer_scales(tensor: Tensor, _: torch.Generator) -> Tensor:
    return torch.zeros_like(tensor)


WEIGHTS: dict[str, tuple[str, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "as drawn": ("", _leave),
    "90 % zeros": ("weight", _thin_out),
    "outliers": ("weight", _put_outliers),
    "denormals": ("", _put_denormals),
    "zero layer scales": ("gamma", _zero_layer_scales),
}
"""What becomes of the weights: of the keys that have this in their name."""


@dataclass(frozen=True)
class NarrowModel:
    """A small model that follows from a seed.

    Attributes:
        kind: what became of its weights, of :data:`WEIGHTS`.
        source: its original state dict.
        inputs: those that a model of its kind is verified on, but for the photo and what is baked.
    """

    seed: int

    @cached_property
    def kind(self) -> str:
        return random.Random(f"weights {self.seed}").choice(["as drawn", *WEIGHTS])

    @cached_property
    def family(self) -> Family[Any]:
        return load_family(draw_spec(self.seed)[0])

    @cached_property
    def spec(self) -> Any:
        return draw_spec(self.seed)[1]

    @cached_property
    def source(self) -> dict[str, Tensor]:
        source = draw_state_dict(self.family, self.spec, "narrow", self.seed)
        part, change = WEIGHTS[self.kind]
        return {
            key: change(tensor, seed_generator(f"{self.seed}/{self.kind}/{key}"))
            if part in key and tensor.is_floating_point()
            else tensor
            for key, tensor in source.items()
        }

    @property
    def overrides(self) -> dict[str, Any]:
        told = tell_settings(self.family, self.spec)
        return told if self.family.name == "dinov2" else told | NORMALISATION

    @property
    def inputs(self) -> list[InputCase]:
        return [
            case
            for case in list_inputs(self.spec, self.spec.image_size, None)
            if not case.photo and case.baked is None and case.name != "224"
        ]

    @cached_property
    def out(self) -> conversion.Conversion:
        labels = [f"class {index}" for index in range(self.spec.num_classes)]
        return conversion.convert(self.source, labels=labels or None, **self.overrides)

    def verify(self, dtype: torch.dtype = torch.float32) -> list[InputVerdict]:
        attention = choose_inexact_attention(self.family)
        converted = load_converted(self.out, attention=attention, dtype=str(dtype).removeprefix("torch."))
        original = self.family.load_original(self.spec, self.source)
        plans = []
        for case in self.inputs:
            run = run_original(self.family, self.spec, original, case, dtype)
            deviation = self.family.find_deviation(self.spec, case.shape, str(dtype).removeprefix("torch."), attention)
            plans.append(InputPlan(case.name, run, [Candidate(converted, deviation)]))
        return [result for (result,) in verify_together(plans, Local.NOWHERE)]
