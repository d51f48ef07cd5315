"""The benchmarks' own instruments: what is called anonymous memory, and what a table says of a record."""

import mmap
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.processes import run, run_command
from tests.benchmarks.table import describe_growth, read_results, render_commands, render_table

MEGABYTE = 1_000_000


def take_memory(size: int) -> None:
    kept = bytearray(size)  # freed at once if nobody holds it
    kept[::4096] = b"\1" * len(kept[::4096])


def map_file(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) == 0


def fail() -> None:
    raise ValueError("of purpose")


def test_anonymous_memory_is_seen_and_mapped_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200 * MEGABYTE))
    assert 250 < run(take_memory, 300 * MEGABYTE).peak < 350
    assert run(map_file, tmp_path / "file").peak < 50


def test_a_job_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="fail ended with 1"):
        run(fail)


def test_the_memory_of_a_command_is_that_of_all_its_processes(tmp_path: Path) -> None:
    child = f"kept = bytearray({200 * MEGABYTE}); kept[::4096] = b'1' * len(kept[::4096]); import time; time.sleep(1)"
    parent = f"import subprocess, sys; {child.replace('import time; time.sleep(1)', '')}"
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    assert 400 < run_command([sys.executable, "-c", parent], tmp_path).peak < 500


def test_a_command_that_ends_otherwise_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nno"):
        run_command([sys.executable, "-c", "import sys; print('no'); sys.exit(3)"], tmp_path)
    run_command([sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path, status=3)


def record(size: str, job: str, turn: int, seconds: float, megabytes: int) -> dict[str, Any]:
    info = {"job": job, "turn": turn, "bytes": megabytes * MEGABYTE, "peak": 10.0 * seconds}
    return {"params": {"checkpoint": size}, "stats": {"median": seconds}, "extra_info": info}


def made_up(seconds_of_l: float = 10.0) -> dict[str, Any]:
    entries = []
    for size, megabytes, convert in (("S", 100, 1.0), ("L", 1000, seconds_of_l), ("g", 4000, 40.0)):
        # the second round is ten times slower, for all alike
        for turn, slow in enumerate((1, 10, 1)):
            seconds = {"cp": 0.5, "write": 2.0, "convert": convert, "official": 30.0, "whole": convert, "command": 9.0}
            entries += [record(size, job, turn, slow * each, megabytes) for job, each in seconds.items()]
    return {"benchmarks": list(reversed(entries))}


def test_ratios_are_of_pairs_and_medians_of_rounds() -> None:
    results = {result.size: result for result in read_results(made_up())}
    assert results["L"].ratio("convert", "cp") == 20
    assert results["L"].ratio("official", "whole") == 3
    assert list(results["L"].seconds["convert"]) == [10, 100, 10]
    (row,) = [line for line in render_table(list(results.values())).splitlines() if line.startswith("| L ")]
    assert "| 1000 | 0.5 | 2.0 | 10.0 | 20.00 | 5.00 | 100 | 30.0 | 10.0 | 3.0 | 300 | 100 |" in row
    assert "| L | 1000 | 9.0 | 90 |" in render_commands(list(results.values()))


@pytest.mark.parametrize(("seconds", "off"), [(10.0, "L +0%"), (15.0, "L +50%")])
def test_growth_is_held_against_a_straight_line(seconds: float, off: str) -> None:
    lines = describe_growth(read_results(made_up(seconds)))
    assert lines[0] == f"Growth of convert: 10.00 s a GB; off the line {off}."
