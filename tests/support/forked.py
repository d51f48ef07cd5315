"""pytest, or other code, in a process that was forked off one that has imported the libraries and this package."""

import gc
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, TextIO

import pytest

from conversion.families.settings import find_module, list_families
from tests.support.forked_workers import fork_workers

LIBRARIES = (
    "torch", "torchvision", "transformers", "timm", "transformers.models.dinov2.modeling_dinov2",
    "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers",
    "transformers.models.data2vec.modeling_data2vec_vision", "transformers.models.auto.modeling_auto",
    "transformers.models.bit.image_processing_pil_bit", "PIL.PngImagePlugin",
    "hypothesis",  # which its plugin imports to sum up
)  # fmt: skip

PACKAGE = (
    "conversion.suite.plugin", "conversion.suite.rows", "conversion.suite.reporting", "conversion.suite.hosts",
    *map(find_module, list_families()),
)  # fmt: skip
"""What most runs import of the project: it takes them a tenth of a second, and half of one without bytecode.

``conversion.suite.exported`` is left out. It imports functions by name, and the plugins of some tests replace these
before.
"""

PLUGINS = ("anyio.pytest_plugin", "platformdirs.pytest_plugin", "pdb")
"""What pytest imports in every run: installed plugins, and the debugger.

pytest-xdist is left out. It keeps the ``sys.path`` of the process that imports it.
"""

ROOT = Path(__file__).parents[2]

QUIET = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
"""Of libraries that are plugins of pytest, too, and need no assertions rewritten."""

READ_ON_IMPORT = re.compile(r"(HF|HUGGINGFACE|TRANSFORMERS|TORCH|PYTORCH|ATEN|OMP|MKL|ONEDNN|CUDA)_")
"""How variables of the environment begin that a library may read when it is imported, and not again."""

ENDPOINT = "HF_ENDPOINT"
OF_HUB = {ENDPOINT, "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_DISABLE_XET"}
"""Of these, what :func:`tests.support.fake_hub.use` sets in a process that has imported the library."""

READ_EACH_TIME = {"HF_TOKEN"}

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()


def serves(environment: Mapping[str, str]) -> bool:
    """Whether a forked process would have what libraries read from this environment."""
    has_stand_in = not OF_HUB - environment.keys()  # of the Hub; some of these alone are a user's own
    return CAN_FORK and (has_stand_in or not OF_HUB & environment.keys()) and select(environment) == prepare_fork()[1]


def run_pytest(arguments: Sequence[str], here: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run pytest with these arguments from a directory, forked where that serves.

    Returns:
        its exit status, and all that it wrote.
    """
    if not serves(environment):
        command = [sys.executable, "-m", "pytest", *arguments]
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=here, env=dict(environment), text=True, check=False, **streams)
        return done.returncode, done.stdout
    context, _ = prepare_fork()
    reader, writer = context.Pipe(duplex=False)
    with Path(os.devnull).open("rb") as nothing:
        process = start_pytest(arguments, here, environment, nothing.fileno(), writer.fileno())
    writer.close()
    with os.fdopen(os.dup(reader.fileno()), encoding="utf-8", errors="replace") as written:
        output = written.read()
    process.join()
    reader.close()
    return process.exitcode, output


def start_pytest(arguments: Sequence[str], here: Path, environment: Mapping[str, str], typed: int, shown: int) -> Any:
    """Fork a process that runs pytest with these arguments from a directory.

    Args:
        typed, shown: descriptors of what it reads, and of what it writes to.
    """
    context, _ = prepare_fork()
    streams = [Connection(os.dup(stream)) for stream in (typed, shown)]  # which reach the other process
    process = context.Process(target=_run, args=(list(arguments), here, dict(environment), *streams))
    process.start()
    for stream in streams:
        stream.close()
    return process


@contextmanager
def running(code: str, *arguments: str, **variables: str) -> Iterator[tuple[Any, TextIO]]:
    """A process that runs this source as ``python -c`` does, and what it writes; killed in the end.

    Args:
        variables: of its environment, of those that libraries read at the first operation and not when imported.
    """
    context, _ = prepare_fork()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_run_code, args=(code, arguments, variables, writer))
    process.start()
    writer.close()
    try:
        with os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as written:
            yield process, written
    finally:
        process.kill()
        process.join()
        reader.close()


def run_module(module: str, *arguments: str, root: Path = ROOT) -> tuple[int, str]:
    """Run a module as ``python -m`` does, from this checkout or another and in it; its status and what it wrote."""
    code = f"import os, runpy, sys\nos.chdir({str(root)!r})\nrunpy.run_module({module!r}, run_name='__main__')"
    if not CAN_FORK:
        command = [sys.executable, "-m", module, *arguments]
        environment = os.environ | {"PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr
    with running(code, *arguments, PYTHONPATH=str(root)) as (process, written):
        output = written.read()
        process.join()
    return process.exitcode, output


def select(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that libraries read when they are imported, without those that can be set afterwards."""
    apart = OF_HUB | READ_EACH_TIME
    return {key: value for key, value in environment.items() if READ_ON_IMPORT.match(key) and key not in apart}


@cache
def prepare_fork() -> tuple[Any, dict[str, str]]:
    """What forks, and the variables that its libraries have read."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, *PLUGINS, *PACKAGE, "tests.support.forked_start"])
    with pytest.MonkeyPatch.context() as patch:
        for name in OF_HUB:
            patch.delenv(name, raising=False)
        ensure_running()
    return context, select(os.environ)


def import_from(path: Sequence[str]) -> None:
    """Have what is imported from now on come from these places: this checkout, or another that is tested."""
    sys.path[:0] = path
    others = {"tests"} if str(ROOT) in path else {"tests", "conversion"}
    for name in [name for name in sys.modules if name.partition(".")[0] in others]:
        del sys.modules[name]


def _run_code(code: str, arguments: tuple[str, ...], variables: Mapping[str, str], writer: Connection) -> None:
    os.environ.update(variables)
    import_from([variables.get("PYTHONPATH", str(ROOT))])
    sys.argv = ["-c", *arguments]
    os.dup2(writer.fileno(), 1)
    writer.close()
    exec(code, {"__name__": "__main__"})


def _run(arguments: list[str], here: Path, environment: dict[str, str], typed: Connection, shown: Connection) -> None:
    """In the forked process: what ``python -m pytest`` does."""
    gc.freeze()  # it need not look through the libraries
    os.chdir(here)
    os.environ.clear()
    os.environ.update(environment)
    path = environment["PYTHONPATH"].split(os.pathsep)
    import_from(["", *path])
    # a plugin of a user's directory is written anew too soon for its bytecode to be told from the one before
    sys.dont_write_bytecode, sys.argv = str(ROOT) in path, ["pytest", *arguments]
    if ENDPOINT in environment:
        _use_hub(environment)
    for stream, source in enumerate((typed, shown, shown)):
        os.dup2(source.fileno(), stream)
    sys.stdin = os.fdopen(0, closefd=False)
    typed.close()
    shown.close()
    if "-n" in arguments:
        fork_workers(int(arguments[arguments.index("-n") + 1]))
    sys.exit(int(pytest.main([*arguments, *QUIET])))


def _use_hub(environment: Mapping[str, str]) -> None:
    from tests.support.fake_hub import use  # here, since few need it

    use(environment[ENDPOINT], Path(environment["HF_HUB_CACHE"]).parent, pytest.MonkeyPatch())
    os.environ.update(environment)  # a token, too, which it takes away
