"""Mutated files, ten thousand with ``--all``: refused or read, never a crash, a hang, or much memory."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.forked import run_module
from tests.support.sampling import Sampler

MEMORY_MB = 1024


def test_no_mutated_file_does_more_than_be_refused(
    tmp_path: Path, sampler: Sampler, record_property: Callable[[str, object], None]
) -> None:
    count = sampler.count(1_000, 10_000)
    code, output = run_module("tests.support.fuzz", str(tmp_path), str(count), str(sampler.seed))
    assert code == 0, f"{output}\nthe file: {tmp_path / 'mutated.pth'}"
    figures = json.loads(output)
    for name, value in figures.items():
        record_property(f"fuzz_{name}", value)
    assert figures["files"] == count
    assert figures["refused"] > count / 2  # else what is mutated is not what is read
    assert figures["accepted"] > 0
    assert figures["memory_mb"] < MEMORY_MB
