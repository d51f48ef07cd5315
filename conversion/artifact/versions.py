"""What a result depends on beside the model: versions of libraries, and the processor."""

import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

VERSIONED = ("torch", "torchvision", "timm", "transformers", "safetensors", "huggingface_hub", "pillow", "numpy")


def read_versions() -> dict[str, str]:
    """What a result depends on: versions of Python and libraries, the CPU's maker, and the instructions in use."""
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONED}
    versions["cpu"] = torch.backends.cpu.get_cpu_capability()
    if maker := read_cpu_maker():
        versions["cpu maker"] = maker
    if mode := os.environ.get("MKL_CBWR"):  # how it sums, which may differ by threads and by where a matrix lies
        versions["mkl mode"] = mode
    if torch.cuda.is_available():
        versions["cuda"] = f"{torch.version.cuda} on {torch.cuda.get_device_name()}"
    return versions


@cache
def read_cpu_maker() -> str:
    """Who made the CPU, in its own word: MKL has other code for Intel's. Empty where the system does not tell."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # another system than Linux
        described = ""
    found = re.search(r"^vendor_id\s*:\s*(\S+)", described, re.MULTILINE)
    return found[1] if found else platform.processor().rpartition(" ")[2]


def describe_versions() -> str:
    """Those of :func:`read_versions`, in a line."""
    return ", ".join(f"{name} {version}" for name, version in read_versions().items())
