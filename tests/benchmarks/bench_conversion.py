"""Every job beside its baseline, round by round, so that what disturbs the machine disturbs both."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import write_synthetic_checkpoint
from tests.benchmarks.jobs import JOBS, OF_STEPS, SIZES, build_command, build_steps
from tests.benchmarks.processes import Usage, run, run_command
from tests.support.processes import ROOT

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "5"))
CHOSEN = os.environ.get("BENCHMARK_SIZES", " ".join(SIZES)).split()


COMMAND = "command"
"""Beside the jobs: what a user types, from the start of Python on."""


@pytest.fixture(scope="module")
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The official file of a size, synthetic, in the system's cache; gone afterwards."""
    run(print)  # the server of processes has imported everything before the first is timed
    folder = tmp_path_factory.mktemp(request.param)
    yield write_synthetic_checkpoint(VARIANTS[SIZES[request.param]], folder, 0)["checkpoint"]
    shutil.rmtree(folder)


@pytest.mark.parametrize("checkpoint", CHOSEN, indirect=True, scope="module")
@pytest.mark.parametrize("turn", range(ROUNDS), scope="module")
@pytest.mark.parametrize("job", [*JOBS, COMMAND])
def test_job(checkpoint: Path, turn: int, job: str, benchmark: Any, tmp_path: Path) -> None:
    usage: list[Usage] = []

    def measure() -> None:
        is_command = job == COMMAND
        command = build_command(checkpoint, tmp_path)
        usage.append(run_command(command, tmp_path) if is_command else run(JOBS[job], checkpoint, tmp_path))

    os.sync()  # what others left to be written is not this one's
    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(job=job, turn=turn, bytes=checkpoint.stat().st_size, peak=usage[0].peak)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("checkpoint", [size for size in CHOSEN if size in OF_STEPS], indirect=True, scope="module")
@pytest.mark.parametrize("turn", range(ROUNDS), scope="module")
def test_steps(checkpoint: Path, turn: int, benchmark: Any, tmp_path: Path) -> None:
    command, record = build_steps(checkpoint, tmp_path)
    os.sync()
    benchmark.pedantic(run_command, (command, ROOT), rounds=1)
    steps = json.loads(record.read_text(encoding="utf-8"))
    benchmark.extra_info.update(turn=turn, bytes=checkpoint.stat().st_size, steps=steps)
    shutil.rmtree(tmp_path)
