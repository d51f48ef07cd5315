"""Checkpoints verified, and artifacts as ``--save-artifacts`` leaves them, to be tampered with."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from conversion.artifact.card import digest_of
from conversion.artifact.card_points import record_points
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.records import Record, Result
from conversion.state_dicts.folder import PARITY_CARD
from conversion.suite.cells import verify_cell
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import read_golden

MODELS = ("dinov2_tiny", "dinov2_tiny_reg", "data2vec_vision_tiny_ade20k")

Change = Callable[[dict[str, Any]], object]


def is_verified(path: Path, told: Mapping[str, Any] | None = None) -> bool:
    """Whether a converted DINOv2 is its original, run side by side; with what its user tells of it."""
    overrides = read_golden("dinov2_tiny").overrides if told is None else told
    subject = Subject("dinov2_custom", Request(checkpoint=path, overrides=overrides))
    with warnings.catch_warnings(action="ignore"):
        try:
            return verify_cell(subject, ("cpu", "float32", "sdpa")).verdict in (Verdict.EXACT, Verdict.CLOSE)
        finally:
            subject.close()


def make_artifact(folder: Path, name: str, **options: Any) -> Path:
    """Convert a recorded model, verified with both attention implementations."""
    golden = read_golden(name)
    torch.save(golden.state_dict, folder / f"{name}.pth")
    request = Request(checkpoint=folder / f"{name}.pth", overrides=golden.overrides, artifacts=folder / name, **options)
    cells = [("cpu", "float32", attention) for attention in ("eager", "sdpa")]
    subject = Subject(f"{golden.family.name}_custom", request, frozenset({"test"}), cells)
    with subject.passing(SimpleNamespace(nodeid="test", user_properties=[])):  # type: ignore[arg-type]
        subject.verdicts += [verify_cell(subject, cell) for cell in cells]
    subject.close()
    return folder / name / subject.variant


def find_input(card: dict[str, Any], name: str) -> dict[str, Any]:
    """What a card records of an input, in the first cell that has it."""
    inputs = (result for cell in card["activations"] for result in cell["inputs"])
    return next(result for result in inputs if result["input"] == name)


def edit(artifact: Path, change: Change, *, is_renewed: bool = True) -> None:
    """Change a card; as somebody would who knows of the digest."""
    card = json.loads((artifact / PARITY_CARD).read_text())
    change(card)
    if is_renewed:
        card["digest"] = digest_of(card)
    (artifact / PARITY_CARD).write_text(json.dumps(card))


def pick(record: Record, attention: str, family: str = "dinov2") -> Result:
    """Of the first model of a family: its result in a cell."""
    found = (result for result in record.results if result.attention == attention)
    return next(result for result in found if result.card and result.card["family"] == family)


def fail(result: Result, point: PointVerdict, message: str = "not the same model") -> Result:
    """The same with a failed capture point in the place of all others."""
    card = json.loads(json.dumps(result.card))
    for each in card["activations"][0]["inputs"]:
        each |= {"verdict": "failed", "max_abs": None, "error_ratio": 1, "points": record_points([point])}
    card["verdict"] = card["activations"][0]["verdict"] = "failed"
    return replace(result, card=card, message=message)
