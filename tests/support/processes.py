"""Processes of one training run on this machine, which find each other as ``torchrun`` lets them."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def find_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def run_ranks(count: int, module: str, *arguments: str) -> None:
    """Run so many processes of a module, one a rank, and wait for them; one thread each."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        for process in processes:
            _, stderr = process.communicate(timeout=300)
            assert process.returncode == 0, stderr
    finally:
        for process in processes:
            process.kill()


def end_rank() -> NoReturn:
    """End the process of a rank that has saved.

    Python's own shutdown is skipped: once in hundreds of runs, a thread of torch aborted the process during it.
    """
    dist.destroy_process_group()
    os._exit(0)
