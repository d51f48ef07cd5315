"""Mutated files, ten thousand with ``--all``: refused or read, never a crash, a hang, or much memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.sampling import Sampler

MEMORY_MB = 1024


def test_no_mutated_file_does_more_than_be_refused(
    tmp_path: Path, sampler: Sampler, record_property: Callable[[str, object], None]
) -> None:
    count = sampler.count(1_000, 10_000)
    command = [sys.executable, "-m", "tests.support.fuzz", str(tmp_path), str(count), str(sampler.seed)]
    root = Path(__file__).parents[3]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stderr}\nthe file: {tmp_path / 'mutated.pth'}"
    figures = json.loads(result.stdout)
    for name, value in figures.items():
        record_property(f"fuzz_{name}", value)
    assert figures["files"] == count
    assert figures["refused"] > count / 2  # else what is mutated is not what is read
    assert figures["accepted"] > 0
    assert figures["memory_mb"] < MEMORY_MB
