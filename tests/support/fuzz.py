"""Mutated files, opened one after the other: nothing but a ConversionError may come of it, soon and in little memory.

Run by ``tests/units/intake/test_fuzz.py`` in a process of its own, since what is looked for includes crashes:
``python -m tests.support.fuzz <folder> <count> <seed>`` prints the figures as JSON.
"""

import json
import random
import resource
import signal
import struct
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

import conversion
from conversion.errors import ConversionError
from tests.support.corpus.making import legacy, saved
from tests.support.golden import NUM_HEADS, read_golden

SECONDS = 10
"""That a file may take before it counts as a hang."""

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def build_seeds() -> dict[str, bytes]:
    """Sound files of every format, small, with foreign classes in some."""
    tensors = {key: tensor.half() for key, tensor in read_golden("dinov2_tiny").backbone.items()}
    wrapped = {"teacher": {f"backbone.{key}": tensor for key, tensor in tensors.items()}, "args": Path("/run")}
    return {
        "archive": saved(tensors),
        "wrapped": saved(wrapped),
        "legacy": legacy(wrapped),
        "safetensors": save(tensors),
    }


def mutate(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """One to four changes, most of them where formats keep what they say of themselves: at either end."""
    mutated = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        if not mutated:
            break
        place = _choose_place(len(mutated), draw)
        match draw.randrange(7):
            case 0:
                mutated[place] ^= 1 << draw.randrange(8)
            case 1:
                mutated[place] = draw.choice(INTERESTING)
            case 2:
                number = draw.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, len(mutated)))
                mutated[place : place + 4] = struct.pack("<I", number)
            case 3:
                del mutated[place : place + draw.choice((1, 2, 8, 64, 4096))]
            case 4:
                mutated[place:place] = draw.randbytes(draw.choice((1, 2, 8, 64)))
            case 5:
                del mutated[place:]
            case _:
                other = draw.choice(others)
                start = _choose_place(len(other), draw)
                mutated[place : place + 64] = other[start : start + 64]
    return bytes(mutated)


def _choose_place(size: int, draw: random.Random) -> int:
    reach = min(size, 4096)
    return draw.choice((draw.randrange(size), draw.randrange(reach), size - 1 - draw.randrange(reach)))


def _stop(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"no end after {SECONDS} s")


def read_peak_mb() -> int:
    """The most memory that this process has had, in MiB; a resource counter would have that of its parent as well."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak) // 1024


def main(folder: Path, count: int, seed: int) -> dict[str, object]:
    """Open so many mutated files; whatever comes of one that is no refusal is raised, with the file kept."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    draw, seeds = random.Random(seed), build_seeds()
    outcomes: Counter[str] = Counter()
    slowest, before = 0.0, read_peak_mb()
    path = folder / "mutated.pth"
    for _ in range(count):
        name = draw.choice(list(seeds))
        path.write_bytes(mutate(seeds[name], list(seeds.values()), draw))
        signal.alarm(SECONDS)
        start = time.perf_counter()
        try:
            conversion.convert(conversion.load_checkpoint(path), num_attention_heads=NUM_HEADS)
            outcomes["accepted"] += 1  # what was changed is a value, a name that nobody reads, or padding
        except ConversionError:
            outcomes["refused"] += 1
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - start)
    return {
        "files": count,
        **outcomes,
        "slowest_s": round(slowest, 3),
        "memory_mb": read_peak_mb(),
        "memory_before_mb": before,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
