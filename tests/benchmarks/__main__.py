"""Run the benchmarks and print their tables: ``python -m tests.benchmarks --help``."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from conversion.artifact.versions import describe_versions
from conversion.families.variants import VARIANTS
from tests.benchmarks.jobs import FAMILIES, INPUT, MISTAKES, SIZES, SUITES
from tests.benchmarks.limits import Limits, count_all_products, count_products, measure_limits
from tests.benchmarks.processes import run_command
from tests.benchmarks.table import (
    PAGE,
    describe_machine,
    read_results,
    render_commands,
    render_limits,
    render_rows,
    render_steps,
    render_table,
)
from tests.support.processes import ROOT

SCRIPTS = Path(sys.executable).parent
STATUSES = {"pytest -k": 5, "pytest": 4, "vision-parity": 2}
"""What a command line that begins so ends with, where it is a mistake."""


def main() -> int:
    """Run, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="paired runs of every job (5)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of models (all)")
    parser.add_argument("--no-suite", action="store_true", help="leave out every official variant: half an hour")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the tables, as Markdown")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/benchmarks/bench_conversion.py", "-q", "-p", "no:cacheprovider",
             "-o", "python_files=bench_*.py", "--dist=no", f"--benchmark-json={record}", f"--basetemp={folder}/runs"],
            env=os.environ | {"BENCHMARK_ROUNDS": str(asked.rounds), "BENCHMARK_SIZES": " ".join(asked.sizes)},
            check=False,
        )  # fmt: skip
        if done.returncode:
            return done.returncode
        results = read_results(json.loads(record.read_text(encoding="utf-8")))
    limits, due = measure_limits(), {size: count_products(SIZES[size]) for size in asked.sizes}
    due_of_whole = {size: count_products(SIZES[size], [INPUT]) for size in asked.sizes}
    page = PAGE.format(
        table=render_table(results),
        commands=render_commands(results),
        limits=render_limits(results, limits, due, due_of_whole),
        steps=render_steps(results, limits, due),
        hashing=limits.hashing / 1e9,
        imports=limits.imports,
        products=limits.products / 1e9,
        suites="Left out." if asked.no_suite else measure_suites(limits),
        mistakes=measure_mistakes(asked.rounds),
        where=f"Medians of {asked.rounds} paired runs on {describe_machine()}; {describe_versions()}.",
    )
    Console().print(Markdown(page))
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    return 0


def measure_suites(limits: Limits) -> str:
    """Every variant of two families, once at each depth, beside what its products alone take."""
    rows, variants = [], [name for name, row in VARIANTS.items() if row.family in FAMILIES]
    for name, text in SUITES.items():
        seconds, memory = _run(text)
        due = count_all_products(variants, is_thorough=name == "thorough")
        products = [f"{due / 1e12:.0f}", f"{due / limits.products / 60:.1f}"]
        rows.append([name, f"`{text}`", f"{seconds / 60:.1f}", f"{memory / 1000:.1f}", *products])
    columns = ["depth", "command", "minutes", "memory, GB", "products, TFLOP", "products, minutes"]
    return "\n".join(render_rows(columns, rows))


def measure_mistakes(rounds: int) -> str:
    """How long it takes until each mistake is said: the median of so many rounds."""
    rows = []
    for text in MISTAKES:
        status = next(status for beginning, status in STATUSES.items() if text.startswith(beginning))
        times = sorted(_run(text, status)[0] for _ in range(rounds))
        rows.append([f"`{text}`", f"{times[rounds // 2]:.1f}"])
    return "\n".join(render_rows(["what is typed", "seconds"], rows))


def _run(text: str, status: int = 0) -> tuple[float, float]:
    """Seconds and MB of a command line of this environment, in the project's folder."""
    name, *rest = shlex.split(text)
    began = time.perf_counter()
    usage = run_command([SCRIPTS / name, *rest], ROOT, status)
    return time.perf_counter() - began, usage.peak


if __name__ == "__main__":
    sys.exit(main())
