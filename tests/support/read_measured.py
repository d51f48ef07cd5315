"""Read a checkpoint in a process of its own, and say what that took: memory at its peak, beyond what was there before.

What is imported on the way is there before: a tiny checkpoint of the same kind is read first. Anonymous memory alone is
counted: the pages of libraries come and go with the machine's load.
"""

import gc
import json
import sys
import threading
from pathlib import Path

from conversion.intake.checkpoint import read_checkpoint

STATUS = Path("/proc/self/status")

INTERVAL = 0.001
"""Seconds between two looks at the memory: far less than reading a tensor takes."""


def read_anonymous() -> int:
    """Anonymous memory of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


class Watch(threading.Thread):
    """Notes the most memory that is taken until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(INTERVAL):
            self.peak = max(self.peak, read_anonymous())

    def stop(self) -> int:
        """The peak, in bytes."""
        self.over.set()
        self.join()
        return max(self.peak, read_anonymous())


def main(warm_up: Path, folder: Path) -> None:
    """Print the bytes of the tensors that were read, and of memory that was taken at most."""
    read_checkpoint(warm_up)
    gc.collect()
    before, watch = read_anonymous(), Watch()
    watch.start()
    state_dict = read_checkpoint(folder).state_dict
    peak = watch.stop()
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    print(json.dumps({"size": size, "peak": peak - before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
