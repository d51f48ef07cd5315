"""Cells of runs that are made up, for what compares runs."""

from collections.abc import Mapping
from typing import Any

from conversion.parity.verdict import Verdict
from conversion.report.baseline import Cell, InputResult, Model

PLACE = "cpu/float32/eager"
VERSIONS = {"cpu": "AVX512", "torch": "2.15.0", "transformers": "5.23.0"}


def build_cell(variant: str = "dinov2_vits14", blocks: int = 12, torch: str = "2.15.0", **changed: Any) -> Cell:
    """An exact cell of a small model, with what is given in place of its own."""
    processor = changed.get("processor", "AVX512")
    fields: dict[str, Any] = {
        "processor": processor,
        "model": Model(variant, blocks, 518, "synthetic, seed 0"),
        "place": PLACE,
        "versions": VERSIONS | {"cpu": processor, "torch": torch},
        "weights": {"model.safetensors": "a" * 64},
        "inputs": build_inputs(native=1.0, photo=1.0),
    }
    return Cell(**(fields | changed))


def build_inputs(
    otherwise: Mapping[str, tuple[str, ...]] | None = None, elements: int | None = None, **ratios: float
) -> dict[str, InputResult]:
    """Name to result: exact where the error ratio is 1, else close."""
    return {
        name: InputResult(
            Verdict.EXACT if ratio == 1.0 else Verdict.CLOSE, ratio, (otherwise or {}).get(name, ()), elements
        )
        for name, ratio in ratios.items()
    }
