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

import torch

from tests.support.forked import CAN_FORK, running

ROOT = Path(__file__).parents[2]

PROCESSORS = {
    "as it is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""Name of an instruction set to the variables that have torch, MKL and oneDNN use no more than it."""

THREADS = (1, 2, 3)

PREPARE = """
import torch
torch.set_num_threads({threads})
print(f"{{torch.backends.cpu.get_cpu_capability().lower()}}, {{torch.get_num_threads()}} threads", flush=True)
"""

ROW = re.compile(r"^(?P<variant>\w+) +cpu +float32 +(?P<attention>\w+) +(?P<verdict>\w+) +[\d.]+ x", re.M)


def build_environment(processor: str, threads: int) -> dict[str, str]:
    """This process's environment, with the variables of an instruction set and a number of threads."""
    removed = {name for variables in PROCESSORS.values() for name in variables}
    kept = {name: value for name, value in os.environ.items() if name not in removed and "PYTEST" not in name}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return kept | PROCESSORS[processor] | counts | {"MKL_DYNAMIC": "false", "CI": "true"}


def run_code(code: str, processor: str, threads: int, *arguments: str) -> list[str]:
    """Run this source under an instruction set, with so many threads, and return the lines that it writes.

    The process is forked off one that has imported the libraries, where the system can do that. torch, MKL and oneDNN
    read the instruction set at their first operation, and the process writes which of them torch took.
    """
    prepared = PREPARE.format(threads=threads) + code
    if CAN_FORK:
        with running(prepared, *arguments, **PROCESSORS[processor]) as (process, written):
            found = written.read().splitlines()
            process.join()
        assert process.exitcode == 0, found
    else:
        environment = build_environment(processor, threads) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", prepared, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found = done.stdout.splitlines()
    asked = PROCESSORS[processor].get("ATEN_CPU_CAPABILITY", torch.backends.cpu.get_cpu_capability().lower())
    assert found[0] == f"{asked}, {threads} threads"
    return found[1:]


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
