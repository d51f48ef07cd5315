"""The golden models: tiny weights, inputs, and what the original code computed from them (``fixtures/golden``)."""

import hashlib
import json
import zlib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

import conversion
from conversion.families.base import Family, Spec, load_family
from conversion.families.settings import option_of
from conversion.families.told import write_value
from conversion.intake.steps import unchunk_blocks
from conversion.parity.points import Inputs
from tests.support.golden_specs import NORMALISATION, PHOTOS, SPECS, describe_head, normalisation_of, resampling_of

__all__ = ["NORMALISATION", "PHOTOS"]

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "golden"
OF_ANOTHER_WIDTH = "dinov2_tiny_dd_channels16"
"""A recorded model whose head no class of transformers can hold: it is there for its keys, and for the original."""

NAMES = tuple(sorted(path.stem for path in DIRECTORY.glob("*.safetensors") if path.stem != OF_ANOTHER_WIDTH))
DEPTH = tuple(name for name in NAMES if name.startswith("depth_anything") or "_dd" in name)
DINOV2 = tuple(name for name in NAMES if name.startswith("dinov2") and name not in DEPTH)
DINOV3 = tuple(name for name in NAMES if name.startswith("dinov3"))
DATA2VEC_VISION = tuple(name for name in NAMES if name.startswith("data2vec_vision"))
BEIT = tuple(name for name in NAMES if name.startswith("beit"))
ARCHITECTURES = tuple(name for name in NAMES if name != "dinov2_tiny_chunked")  # chunks have no part in an architecture
NUM_HEADS = 2


@dataclass(frozen=True)
class GoldenCase:
    """One recorded run: inputs in float32, outputs in float64 under the original's names.

    Attributes:
        counterfactual: those of the original without what transformers does otherwise, where that was recorded.
    """

    name: str
    inputs: Inputs
    outputs: dict[str, Tensor]
    counterfactual: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenModel:
    """A golden model; its weights as recorded, and as intake hands them on."""

    name: str
    config: dict[str, Any]
    recorded: dict[str, Tensor]
    linear_head: dict[str, Tensor]
    cases: tuple[GoldenCase, ...]

    @property
    def family(self) -> Family[Any]:
        name = self.name.partition("_tiny")[0]
        if self.name.startswith("dinov2_tiny_dd"):
            return load_family("dinov2_depth")
        return load_family({"beitv2": "beit", "depth_anything_v2": "depth_anything"}.get(name, name))

    @property
    def backbone(self) -> dict[str, Tensor]:
        return unchunk_blocks(self.recorded)[0]

    @property
    def spec(self) -> Spec:
        return SPECS[self.family.name](self)

    @property
    def overrides(self) -> dict[str, Any]:
        """What shapes cannot tell about this model."""
        if self.family.name == "dinov2":
            return {"num_attention_heads": NUM_HEADS, **resampling_of(self)}
        if self.name in DEPTH:
            return describe_head(self)
        if self.family.name == "dinov3":
            return {"layer_norm_eps": self.config["layer_norm_eps"], **PHOTOS}
        if self.family.name == "beit":
            return {**({} if "vocab_size" in self.config else {"family": "beit"}), **normalisation_of(self)}
        told = {name: tuple(self.config[name]) for name in ("out_indices", "pool_scales") if name in self.config}
        return told | normalisation_of(self)

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Backbone, and linear head under its prefix."""
        return self.backbone | {f"linear_head.{key}": tensor for key, tensor in self.linear_head.items()}


SHORT, TAKEN = 5, (0, 1, 3, 4)
"""Blocks of a short model, and those whose outputs its head takes: not the last four."""


def shorten(golden: GoldenModel) -> tuple[Spec, dict[str, Any]]:
    """The model's spec and settings; cut to five blocks if its head takes the outputs of four of more than five."""
    spec = golden.spec
    if spec.depth <= SHORT or len(getattr(spec, "out_indices", ())) != len(TAKEN):
        return spec, golden.overrides
    return replace(spec, depth=SHORT, out_indices=TAKEN), {**golden.overrides, "out_indices": TAKEN}


def list_options(name: str) -> tuple[str, ...]:
    """The options that tell what the tensors of a recorded model cannot."""
    overrides = read_golden(name).overrides
    return tuple(f"{option_of(setting)}={write_value(value)}" for setting, value in overrides.items())


@cache
def read_golden(name: str) -> GoldenModel:
    """Read a golden file."""
    with safe_open(DIRECTORY / f"{name}.safetensors", framework="pt") as file:
        # what BEiT's authors call logits of masked image modeling are this model's logits
        keys = {key.replace(".mim_logits", ".logits"): key for key in file.keys()}  # noqa: SIM118 (not a mapping)
        tensors = {name: file.get_tensor(key) for name, key in keys.items()}
        metadata = file.metadata()
    tensors |= {f"weights.{key}": draw_recipe(key, **each) for key, each in _read_recipe(metadata).items()}
    cases = []
    for case in sorted(key.partition(".")[0] for key in tensors if key.endswith(".pixel_values")):
        outputs = _strip(tensors, f"{case}.")
        pixel_values = outputs.pop("pixel_values")
        changed = {key: outputs.pop(f"counterfactual.{key}") for key in _strip(outputs, "counterfactual.")}
        masked, changed_masked = _strip(outputs, "masked."), _strip(changed, "masked.")
        masks = [held.pop("bool_masked_pos") for held in (outputs, masked) if "bool_masked_pos" in held]
        plain, changed_plain = (
            {key: value for key, value in held.items() if not key.startswith("masked.")} for held in (outputs, changed)
        )
        cases.append(GoldenCase(case, Inputs(pixel_values), plain, changed_plain))
        cases += [GoldenCase(f"{case}.masked", Inputs(pixel_values, mask), masked, changed_masked) for mask in masks]
    return GoldenModel(
        name,
        json.loads(metadata["config"]),
        _strip(tensors, "weights."),
        _strip(tensors, "linear_head."),
        tuple(cases),
    )


def draw_recipe(key: str, shape: list[int], scale: float, sha256: str) -> Tensor:
    """A weight that is not stored, but drawn as the recording says."""
    drawn = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape) * scale
    tensor = torch.from_numpy(drawn.astype(np.float32))
    assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == sha256, key
    return tensor


def _read_recipe(metadata: dict[str, str]) -> dict[str, dict[str, Any]]:
    recipe: dict[str, dict[str, Any]] = json.loads(metadata.get("recipe", '{"keys": {}}'))["keys"]
    return recipe


def tiny() -> dict[str, Tensor]:
    """The weights of the plain DINOv2 model."""
    return dict(read_golden("dinov2_tiny").backbone)


def convert(name: str = "dinov2_tiny") -> conversion.Conversion:
    """Convert a recorded model."""
    golden = read_golden(name)
    return conversion.convert(golden.state_dict, **golden.overrides)


def write_artifact(folder: Path, name: str = "dinov2_tiny_1layer") -> Path:
    """A recorded model's artifact, as :func:`conversion.save_artifact` writes it."""
    conversion.save_artifact(convert(name), folder / "artifact")
    return folder / "artifact"


@cache
def read_json(name: str) -> Any:
    """Read one of the golden JSON files."""
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def rounds_otherwise(name: str) -> bool:
    """Whether transformers 5 rounds otherwise than the original of a recorded model does, though not of official ones.

    It cuts the fused projection of DINOv2's SwiGLU in two, and products this small sum in another order. It scales
    BEiT's scores and not the query; that is the same where the heads' width is a power of 4, and here it is 12.
    """
    return name in ("dinov2_tiny_swiglu", "beitv2_tiny_ft")


def choose_inexact_attention(family: Family[Any]) -> str:
    """The attention implementation that is not exact, so that a fault must stand out from rounding."""
    return {"eager": "sdpa", "sdpa": "eager"}[family.choose_attention()]
