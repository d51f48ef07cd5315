"""Run the benchmarks and print their table: ``python -m tests.benchmarks --help``."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from conversion.artifact.card import describe_versions
from tests.benchmarks.jobs import SIZES
from tests.benchmarks.table import PAGE, describe_machine, read_results, render_table


def main() -> int:
    """Run, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="paired runs of every job (5)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of models (all)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the table, as Markdown")
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
    where = f"Medians of {asked.rounds} paired runs on {describe_machine()}; {describe_versions()}."
    table = render_table(results)
    Console().print(Markdown(f"{table}\n\n{where}"))
    if asked.write:
        asked.write.write_text(PAGE.format(table=table, where=where), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
