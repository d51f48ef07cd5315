"""What is measured: the project's own jobs, and what each is held against.

Each takes a checkpoint file and an empty folder, and leaves what it made on the disk, not in the system's memory.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn
from transformers import Dinov2WithRegistersModel

from conversion import convert, load_checkpoint, save_artifact
from conversion.artifact.card import MatrixVerdict, Provenance, describe_source
from conversion.artifact.load import load_converted, load_model
from conversion.artifact.stage import stage_artifact
from conversion.families.base import load_family
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.original_run import OriginalRun
from conversion.parity.verdict import Verdict
from conversion.suite.inputs import InputCase, draw_inputs
from tests.support.runs import verify_input

SIZES = {"S": "dinov2_vits14_reg", "B": "dinov2_vitb14_reg", "L": "dinov2_vitl14_reg", "g": "dinov2_vitg14_reg"}
"""With registers: at 224 no known deviation is in the way of the official check."""

OF_STEPS = ("S", "B")
"""Sizes whose command is timed step by step; of larger ones the products are nearly all."""

INPUT = InputCase("224", 224, 224)
OFFICIAL_TOLERANCE = 1e-3


def copy(file: Path, folder: Path) -> None:
    """The baseline of a conversion: the file, copied by the system."""
    subprocess.run(["cp", file, folder], check=True)
    os.sync()


def write(file: Path, folder: Path) -> None:
    """The file again, but through a process's memory as any library writes; ``cp`` has the kernel copy it."""
    subprocess.run(["dd", f"if={file}", f"of={folder / 'copy'}", "bs=1M", "status=none"], check=True)
    os.sync()


def convert_alone(file: Path, folder: Path) -> None:
    """From a checkpoint file to an artifact, its tensors proven; what ``cp`` is held against."""
    save_artifact(convert(load_checkpoint(file)), folder / "artifact")
    os.sync()


def verify_whole(file: Path, folder: Path) -> None:
    """Load, convert, save, load back, run both, compare bit for bit at every capture point, publish with the proof."""
    checkpoint = read_checkpoint(file)
    out = convert(checkpoint.state_dict)
    family = load_family(out.family)
    with ThreadPoolExecutor(1) as background:
        source = background.submit(describe_source, checkpoint)
        with stage_artifact(out, folder / "artifact") as staged:
            original = family.load_original(out.spec, out.source)
            inputs = draw_inputs(INPUT, out.spec.patch_size, 0)
            run = OriginalRun(original, family.list_stages(out.spec, masked=False), inputs, torch.float32)
            result = verify_input(INPUT.name, run, load_model(staged.directory))
            if result.verdict is not Verdict.EXACT:
                raise AssertionError(result)
            provenance = Provenance("checkpoint", None, {"checkpoint": source.result()})
            staged.publish(provenance, (MatrixVerdict("cpu", "float32", "sdpa", 0, (result,)),))
    os.sync()


def verify_officially(file: Path, folder: Path) -> None:
    """What the official converter does, in our words: both models built at random, then filled; one token compared."""
    out = convert(load_checkpoint(file))
    original = load_family(out.family).build_original(out.spec)
    for module in original.modules():
        if isinstance(module, nn.Linear):  # timm's initialisation, which the original asks for
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    original.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    model = Dinov2WithRegistersModel(out.config)
    # their script gives what is on disk to load_state_dict, which transformers 5 refuses; this costs a view each
    model.load_state_dict(load_converted(out).state_dict())
    pixel_values = draw_inputs(INPUT, out.spec.patch_size, 0).pixel_values
    with torch.no_grad():
        expected, actual = original.eval()(pixel_values), model.eval()(pixel_values)
    if not torch.allclose(expected["x_norm_clstoken"], actual.pooler_output, atol=OFFICIAL_TOLERANCE):
        raise AssertionError("the official check fails")
    model.save_pretrained(folder)
    os.sync()


def build_command(file: Path, folder: Path) -> list[str | Path]:
    """The command that a user types: from a checkpoint file to an artifact that was verified."""
    return [sys.executable, "-m", "conversion", "convert", file, "-o", folder / "artifact"]


def build_steps(file: Path, folder: Path) -> tuple[list[str | Path], Path]:
    """The same command in a process that takes the time of its steps, to be run in the project's folder; its record."""
    python, _, _, *command = build_command(file, folder)
    record = folder / "steps.json"
    return [python, "-m", "tests.benchmarks.steps", record, *command], record


JOBS: dict[str, Callable[..., None]] = {
    "cp": copy,
    "write": write,
    "convert": convert_alone,
    "official": verify_officially,
    "whole": verify_whole,
}

MISTAKES = (
    "vision-parity convert absent.pth",
    "vision-parity convert dinov2_vits15",
    "vision-parity convert absent.pth --nowhere",
    "vision-parity convert README.md --num-attention-heads six",
    "vision-parity convert README.md",
    "vision-parity compare absent.pth model",
    "vision-parity verify absent",
    "pytest --checkpoint=absent.pth",
    "pytest --checkpoint=README.md --linear-head=absent.pth",
    "pytest --dtype float8",
    "pytest --image-size 13",
    "pytest -k dinov2_vits15",
)
"""What a user may type wrongly."""

FAMILIES, EXPRESSION = ("dinov2", "data2vec_vision"), "test_parity and (dinov2 or data2vec) and not dpt"
"""Whose official variants are all verified, and what selects them. Each is verified whole since ``-k`` names it."""

SUITES = {"default": f"pytest -n 2 -k '{EXPRESSION}'", "thorough": f"pytest -n 2 --thorough -k '{EXPRESSION}'"}
"""Depth to what verifies them."""
