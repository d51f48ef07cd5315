"""The benchmarks' own instruments: what is called anonymous memory, and what a table says of a record."""

import json
import mmap
import sys
import time
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression  # what -k is evaluated by; pytest has no public way to it

from conversion.families.variants import VARIANTS
from tests.benchmarks.limits import Limits
from tests.benchmarks.processes import run, run_command
from tests.benchmarks.steps import FILE, FUNCTIONS, LIBRARIES, OTHERS, PASSES, REST, STEPS, YARDSTICK, Clock
from tests.benchmarks.table import describe_growth, read_results, render_commands, render_steps, render_table
from tests.support.processes import ROOT

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


def test_the_suites_verify_the_models_whose_products_are_counted() -> None:
    from tests.benchmarks.jobs import EXPRESSION, FAMILIES  # here, since it loads transformers

    is_selected = Expression.compile(EXPRESSION).evaluate
    selected = {name for name in VARIANTS if is_selected(lambda word, name=name: word in f"test_parity[{name}-cpu]")}
    assert selected == {name for name, row in VARIANTS.items() if row.family in FAMILIES}


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
    assert list(results) == ["S", "L", "g"]  # by size, whichever was measured first
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


def wait(seconds: float = 0.02) -> None:
    time.sleep(seconds)


def test_a_step_leaves_out_those_within_it_unless_it_is_whole() -> None:
    clock = Clock(since=(time.perf_counter(), time.process_time()))
    began = time.perf_counter()
    for outer in (FILE, YARDSTICK):
        clock.measure(outer, lambda: (wait(), clock.measure(PASSES, wait, 0.1)))
    clock.go_to(REST)
    spent = {step: seconds for step, (seconds, _) in clock.spent.items()}
    assert 0.02 <= spent[FILE] < 0.1 <= spent[PASSES] < 0.12 <= spent[YARDSTICK]
    assert sum(spent.values()) == pytest.approx(time.perf_counter() - began, abs=0.02)


def test_the_functions_of_each_step_are_there() -> None:
    for place, step in FUNCTIONS.items():
        module, _, path = place.partition(":")
        assert callable(attrgetter(path)(import_module(module))), place
        assert step in STEPS


def test_the_steps_of_a_command_are_those_of_its_own_process(tmp_path: Path) -> None:
    record = tmp_path / "steps.json"
    began = time.perf_counter()
    run_command([sys.executable, "-m", "tests.benchmarks.steps", record, "convert", "README.md"], ROOT, status=2)
    seconds = time.perf_counter() - began
    spent = {step: each for step, (each, _) in json.loads(record.read_text()).items()}
    assert set(spent) == {LIBRARIES, OTHERS, FILE, REST}
    assert spent[LIBRARIES] > spent[FILE]
    assert sum(spent.values()) < seconds


def test_the_steps_add_up_to_the_whole() -> None:
    params, info = {"checkpoint": "S"}, {"turn": 0, "steps": {PASSES: [3.0, 5.0], REST: [0.5, 0.5]}}
    of_steps = {"params": params, "stats": {"median": 4.5}, "extra_info": info}
    results = read_results({"benchmarks": [*made_up()["benchmarks"], of_steps]})
    rows = render_steps(results, Limits(products=2.0, hashing=1.0, imports=1.0), {"S": 4.0}).splitlines()
    assert rows[0] == "| step | S |"
    assert f"| {PASSES} | 3.0 (5.0) |" in rows
    assert f"| {REST} | 1.5 (0.5) |" in rows
    assert rows[rows.index(f"| {PASSES} | 3.0 (5.0) |") + 1] == "| of these, products | 2.0 |"
