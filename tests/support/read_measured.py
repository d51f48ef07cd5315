"""Read a checkpoint in a process of its own, and say what that took: memory at its peak, beyond what was there before.

What is imported on the way is there before: a tiny checkpoint of the same kind is read first.
"""

import gc
import json
import sys
from pathlib import Path

from conversion.intake.checkpoint import read_checkpoint

STATUS = Path("/proc/self/status")


def read_status(name: str) -> int:
    """A figure of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def main(warm_up: Path, folder: Path) -> None:
    """Print the bytes of the tensors that were read, and of memory that was taken at most."""
    read_checkpoint(warm_up)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    before = read_status("VmRSS")
    state_dict = read_checkpoint(folder).state_dict
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    print(json.dumps({"size": size, "peak": read_status("VmHWM") - before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
