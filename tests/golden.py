"""The golden models: tiny weights, inputs, and what the original code computed from them (``fixtures/golden``)."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from conversion.checkpoint import unchunk_blocks
from conversion.dinov2.config import Dinov2Spec
from conversion.parity.compare import Inputs

DIRECTORY = Path(__file__).parents[1] / "fixtures" / "golden"
DINOV2 = tuple(sorted(path.stem for path in DIRECTORY.glob("dinov2_*.safetensors")))
NUM_HEADS = 2


@dataclass(frozen=True)
class GoldenCase:
    """One recorded run: inputs in float32, outputs in float64 under the original's names."""

    name: str
    inputs: Inputs
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class GoldenModel:
    """A golden model; its weights as recorded, and as intake hands them on."""

    name: str
    config: dict[str, Any]
    recorded: dict[str, Tensor]
    linear_head: dict[str, Tensor]
    cases: tuple[GoldenCase, ...]

    @property
    def backbone(self) -> dict[str, Tensor]:
        return unchunk_blocks(self.recorded, DIRECTORY / f"{self.name}.safetensors")

    @property
    def spec(self) -> Dinov2Spec:
        return Dinov2Spec(
            embed_dim=self.config["embed_dim"],
            depth=self.config["depth"],
            num_heads=self.config["num_heads"],
            ffn="swiglu" if self.config["ffn"] == "swiglufused" else "mlp",
            num_register_tokens=self.config["registers"],
            patch_size=self.config["patch_size"],
            image_size=self.config["image_size"],
            num_classes=self.linear_head["bias"].shape[0] if self.linear_head else 0,
        )

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Backbone, and linear head under its prefix."""
        return self.backbone | {f"linear_head.{key}": tensor for key, tensor in self.linear_head.items()}


@cache
def read_golden(name: str) -> GoldenModel:
    """Read a golden file."""
    with safe_open(DIRECTORY / f"{name}.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = file.metadata()
    cases = []
    for case in json.loads(metadata["cases"]):
        pixel_values = tensors[f"{case}.pixel_values"]
        masks = tensors.get(f"{case}.masked.bool_masked_pos")
        outputs = _strip(tensors, f"{case}.")
        plain = {
            key: value for key, value in outputs.items() if not key.startswith("masked.") and key != "pixel_values"
        }
        cases.append(GoldenCase(case, Inputs(pixel_values), plain))
        if masks is not None:
            masked = _strip(tensors, f"{case}.masked.")
            masked.pop("bool_masked_pos")
            cases.append(GoldenCase(f"{case}.masked", Inputs(pixel_values, masks), masked))
    return GoldenModel(
        name,
        json.loads(metadata["config"]),
        _strip(tensors, "weights."),
        _strip(tensors, "linear_head."),
        tuple(cases),
    )


@cache
def read_json(name: str) -> Any:
    """Read one of the golden JSON files."""
    return json.loads((DIRECTORY / name).read_text(encoding="utf-8"))


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
