"""From the record of a benchmark to its table: medians, ratios pair by pair, memory, and growth with size."""

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.limits import Limits
from tests.benchmarks.steps import PASSES, REST, STEPS

PAGE = """# What it takes

Written by `python -m tests.benchmarks --write docs/benchmarks.md`; all on one machine, in one run, every job beside its
baseline, round by round. Checkpoints are official in format and size, synthetic in content, and in the system's cache;
what a job makes is on the disk when its time stops (`sync`). Memory is anonymous, pages of mapped files left out, over
what the imports take.

- **convert** is `conversion.save_artifact(convert(load_checkpoint(file)), folder)`. Beside it `cp` of the file, for
  which the kernel copies from file to file, and *write*, the same file through a process's memory (`dd bs=1M`), as any
  library writes. Beyond writing, it hashes the source and the result, looks at all values for NaN, reads the written
  file back and compares it bit for bit.
- **whole job** is load, convert, save, load back, both models forward at 224, compared bit for bit at every capture
  point, and published with the hashes of source and result. The *official way* builds both models at random, fills
  them, runs both, compares one token at 1e-3 and saves: no reading back, no hash.

{table}

## A verified model

`vision-parity convert FILE -o DIR`, from the start of Python to its end. The file is read and converted. Both models
run on the inputs of a default verification ([which these are](judging.md#on-which-inputs)). What is the same model is
published with its card and hashes.

{commands}

## Where the time goes

What this machine does at best, measured in the same run, and how much of it each size asks for.

- *Hash*: SHA-256 of one file is the work of one core, at {hashing:.1f} GB a second here. A conversion hashes the source
  and the result. On two cores that fills both of them for this long, and writing, comparing and looking for NaN share
  the cores with it.
- *Libraries*: torch, torchvision and transformers are imported in {imports:.1f} s. Nothing is multiplied before.
- *Products*: the matrix products of both models, at {products:.0f} GFLOP a second, which a product of ViT-L's MLP
  reaches on all cores. The whole job runs both on one image of 224, the command on the inputs of a default
  verification. The rest of attention, the float64 yardstick, and all that reads, compares and writes come on top.

{limits}

Step by step, the same command in a process that takes the time of its functions: seconds by the clock, and in brackets
seconds of all cores. A step leaves out the others that it calls, so that they add up to the whole. Only the passes keep
several cores busy: two of them take about half of what stands there in brackets, and all of what stands elsewhere.
Imports run on one core; a quarter of their time goes to `torch._dynamo`, which torchvision and transformers need.

{steps}

## Every official variant

Of DINOv2 and Data2Vec-Vision, each at full size, with synthetic weights; all that `pytest` does, from its start to
its end. Memory is that of all its processes. *Products* are those of both models on all inputs, convolutions among
them, and those of the second attention implementation and its float64 yardstick, of which one operation counts as
two. At the rate above they take so long on all cores, if nothing else is done.

{suites}

About half of the products are those of the two segmentation models. Of the base one's proof, a minute and a half by
itself, `torch.profiler` with all threads counts 88 seconds of operations: 28 in convolutions, 29 in products of
matrices (15 of them convolutions in float64, which torch multiplies out), 4 in those of attention, 2 in its
softmax; 11 in copying, 5 in comparing, the rest in drawing weights and adding.

The most memory is that of the large segmentation model: 9.5 GB in a process of its own, with two images of 512 x 512
pixels. Weights are no part of it: both models read theirs from files that are mapped, 3.5 GB which the system may take
back. At the peak, 4.6 GB are maps in float32, of the original and of the converted model with either attention: four of
4,096 channels, 0.5 GB each, and those of 1,024 that they are joined of. The yardstick has 1.9 GB of maps in float64,
and is joining them to one of 1.1 GB. The libraries take 0.5 GB. What is left are operands of the operations, and freed
memory that is kept for the next tensor. The other process verifies another model meanwhile.

## What is typed wrongly

{mistakes}

{where}
"""


@dataclass(frozen=True)
class Result:
    """One size of model.

    Attributes:
        bytes: of the checkpoint file.
        seconds: of every job, round by round.
        peaks: MB of anonymous memory, likewise.
        steps: of the command, each to seconds by the clock and seconds of all cores, round by round.
    """

    size: str
    bytes: int
    seconds: Mapping[str, Sequence[float]]
    peaks: Mapping[str, Sequence[float]]
    steps: Mapping[str, Sequence[tuple[float, float]]]

    def ratio(self, job: str, baseline: str) -> float:
        """The median over the rounds of the one's time by the other's of the same round."""
        return median(own / other for own, other in zip(self.seconds[job], self.seconds[baseline], strict=True))


def read_results(record: Mapping[str, Any]) -> list[Result]:
    """Size by size, from the JSON of pytest-benchmark."""
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    peaks: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    steps: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[str, int] = {}
    for entry in sorted(record["benchmarks"], key=lambda entry: entry["extra_info"]["turn"]):
        size, info = entry["params"]["checkpoint"], entry["extra_info"]
        if "steps" in info:
            for step, (clock, cores) in add_rest(info["steps"], entry["stats"]["median"]).items():
                steps[size][step].append((clock, cores))
            continue
        seconds[size][info["job"]].append(entry["stats"]["median"])
        peaks[size][info["job"]].append(info["peak"])
        sizes[size] = info["bytes"]
    return [
        Result(size, sizes[size], seconds[size], peaks[size], steps[size])
        for size in sorted(sizes, key=sizes.__getitem__)
    ]


def add_rest(steps: Mapping[str, Sequence[float]], seconds: float) -> dict[str, tuple[float, float]]:
    """Each step's seconds by the clock and of all cores; what Python took to start and to end goes to the rest."""
    times = {step: (clock, cores) for step, (clock, cores) in steps.items()}
    clock, cores = times.get(REST, (0.0, 0.0))
    return {**times, REST: (clock + seconds - sum(clock for clock, _ in times.values()), cores)}


def _seconds(job: str) -> Callable[[Result], str]:
    return lambda result: f"{median(result.seconds[job]):.1f}"


def _peak(job: str) -> Callable[[Result], str]:
    return lambda result: f"{median(result.peaks[job]):.0f}"


COLUMNS = {
    "size":                    lambda result: result.size,
    "file, MB":                lambda result: f"{result.bytes / 1e6:.0f}",
    "cp, s":                   _seconds("cp"),
    "write, s":                _seconds("write"),
    "convert, s":              _seconds("convert"),
    "by cp":                   lambda result: f"{result.ratio('convert', 'cp'):.2f}",
    "by write":                lambda result: f"{result.ratio('convert', 'write'):.2f}",
    "convert, MB":             _peak("convert"),
    "official way, s":         _seconds("official"),
    "whole job, s":            _seconds("whole"),
    "times faster":            lambda result: f"{result.ratio('official', 'whole'):.1f}",
    "official way, MB":        _peak("official"),
    "whole job, MB":           _peak("whole"),
}  # fmt: skip


COMMAND_COLUMNS = {
    "size":                    COLUMNS["size"],
    "file, MB":                COLUMNS["file, MB"],
    "seconds":                 _seconds("command"),
    "memory, MB":              _peak("command"),
}  # fmt: skip


def render_table(results: Sequence[Result]) -> str:
    """The jobs, as Markdown, and what is said of growth."""
    return "\n".join([*_render(COLUMNS, results), "", *describe_growth(results)])


def render_commands(results: Sequence[Result]) -> str:
    """The command that users type, as Markdown."""
    return "\n".join([*_render(COMMAND_COLUMNS, results), "", *describe_growth(results, ("command",))])


def render_limits(
    results: Sequence[Result], limits: Limits, due: Mapping[str, float], due_of_whole: Mapping[str, float]
) -> str:
    """What each size asks of a machine, beside what its jobs took, as Markdown.

    Args:
        due: floating-point operations of the products of the command, size by size.
        due_of_whole: the same of the whole job.
    """
    columns = {
        "size":             COLUMNS["size"],
        "hash, s":          lambda result: f"{result.bytes / limits.hashing:.1f}",
        "convert, s":       COLUMNS["convert, s"],
        "products at 224, s": lambda result: f"{due_of_whole[result.size] / limits.products:.1f}",
        "whole job, s":     COLUMNS["whole job, s"],
        "libraries, s":     lambda _: f"{limits.imports:.1f}",
        "products, TFLOP":  lambda result: f"{due[result.size] / 1e12:.2f}",
        "products, s":      lambda result: f"{due[result.size] / limits.products:.1f}",
        "command, s":       _seconds("command"),
    }  # fmt: skip
    return "\n".join(_render(columns, results))


def render_steps(results: Sequence[Result], limits: Limits, due: Mapping[str, float]) -> str:
    """The steps of the command of the sizes that have them, a row each, as Markdown; arguments as above."""
    timed = [result for result in results if result.steps]
    rows = []
    for step in STEPS:
        times = [zip(*result.steps.get(step, [(0.0, 0.0)]), strict=True) for result in timed]
        rows.append([step, *("{:.1f} ({:.1f})".format(*map(median, each)) for each in times)])
        if step == PASSES:
            rows.append(["of these, products", *(f"{due[result.size] / limits.products:.1f}" for result in timed)])
    return "\n".join(render_rows(["step", *(result.size for result in timed)], rows))


def render_rows(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as Markdown, line by line."""
    return ["| " + " | ".join(row) + " |" for row in (names, ["---"] * len(names), *rows)]


def _render(columns: Mapping[str, Callable[[Result], str]], results: Sequence[Result]) -> list[str]:
    return render_rows(list(columns), [[column(result) for column in columns.values()] for result in results])


def describe_growth(results: Sequence[Result], jobs: Sequence[str] = ("convert", "whole", "cp")) -> list[str]:
    """How far the sizes between lie from the straight line through the smallest and the largest."""
    if len(results) < 3:
        return []
    first, *between, last = sorted(results, key=lambda result: result.bytes)
    lines = []
    for job in jobs:
        low, high = median(first.seconds[job]), median(last.seconds[job])
        slope = (high - low) / (last.bytes - first.bytes)
        off = [
            f"{result.size} {median(result.seconds[job]) / (low + slope * (result.bytes - first.bytes)) - 1:+.0%}"
            for result in between
        ]
        lines.append(f"Growth of {job}: {slope * 1e9:.2f} s a GB; off the line {', '.join(off)}.")
    return lines


def describe_machine() -> str:
    """Cores, memory and processor. Linux only."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GiB, {platform.machine()}"
