"""Parity under the instruction sets and numbers of threads that one machine can be told to use.

``python -m tests.support.processors "dinov2_vits14"`` runs ``test_parity`` of those variants, exact required, under
each, and prints a table in Markdown.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROCESSORS = {
    "as it is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""Name of an instruction set to the variables that have torch, MKL and oneDNN use no more than it."""

THREADS = (1, 2, 3)

ROW = re.compile(r"^(?P<variant>\w+) +cpu +float32 +(?P<attention>\w+) +(?P<verdict>\w+) +[\d.]+ x", re.M)


def build_environment(processor: str, threads: int) -> dict[str, str]:
    """This process's environment, with the variables of an instruction set and a number of threads."""
    removed = {name for variables in PROCESSORS.values() for name in variables}
    kept = {name: value for name, value in os.environ.items() if name not in removed and "PYTEST" not in name}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return kept | PROCESSORS[processor] | counts | {"MKL_DYNAMIC": "false", "CI": "true"}


def run(variants: str, processor: str, threads: int) -> tuple[int, str]:
    """Status and output of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"test_parity and ({variants})"]
    environment = build_environment(processor, threads)
    done = subprocess.run(
        [*command, "tests/parity"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def tabulate(variants: str) -> Iterator[str]:
    """A row for each instruction set and number of threads, as each is done."""
    yield "| instructions | threads | tests | exact, of those that decide | close |"
    yield "| --- | --- | --- | --- | --- |"
    for processor in PROCESSORS:
        for threads in THREADS:
            status, output = run(variants, processor, threads)
            cells = [
                (f"{row['variant']} {row['attention']}", row["verdict"] == "exact") for row in ROW.finditer(output)
            ]
            exact, others = ([name for name, found in cells if found is wanted] for wanted in (True, False))
            passed = f"{output.splitlines()[-1].partition(' in ')[0]}{'' if status == 0 else f', status {status}'}"
            yield f"| {processor} | {threads} | {passed} | {', '.join(exact)} | {', '.join(others)} |"


if __name__ == "__main__":
    for line in tabulate(sys.argv[1]):
        print(line, flush=True)
