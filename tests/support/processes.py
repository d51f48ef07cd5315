"""Processes of one training run on this machine, which find each other as ``torchrun`` lets them."""

import multiprocessing
import os
import runpy
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import torch
import torch.distributed as dist

from tests.support.forked import CAN_FORK, prepare_fork

ROOT = Path(__file__).parents[2]


def find_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def run_ranks(count: int, module: str, *arguments: str) -> None:
    """Run so many processes of a module, one a rank, and wait for them; one thread each.

    They are forked where that can be done: importing the libraries takes each of them longer than saving does.
    """
    context = prepare_fork()[0] if CAN_FORK else multiprocessing.get_context("spawn")
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port())}
    with TemporaryDirectory() as folder:
        logs = [Path(folder) / str(rank) for rank in range(count)]
        environments = [shared | {"RANK": str(rank)} for rank in range(count)]
        ranks = [
            context.Process(target=_run_rank, args=(module, arguments, *own))
            for own in zip(environments, logs, strict=True)
        ]
        try:
            for rank in ranks:
                rank.start()
            for rank, log in zip(ranks, logs, strict=True):
                rank.join(timeout=300)
                assert rank.exitcode == 0, log.read_text()
        finally:
            for rank in ranks:
                rank.kill()


def _run_rank(module: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    """In the process of a rank: what ``python -m`` does, with what it says on stderr in a file."""
    with log.open("wb") as written:
        os.dup2(written.fileno(), 2)
    os.environ.update(environment)
    sys.path.insert(0, str(ROOT))
    sys.argv = [module, *arguments]
    torch.set_num_threads(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_rank() -> NoReturn:
    """End the process of a rank that has saved.

    Python's own shutdown is skipped: once in hundreds of runs, a thread of torch aborted the process during it.
    """
    dist.destroy_process_group()
    os._exit(0)
