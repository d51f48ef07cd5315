"""Workers of pytest-xdist, on this host or several: all hosts are alike, and no worker is lost without a word."""

import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from conversion.artifact.versions import VERSIONED
from conversion.errors import ConversionError, DeviceError

LOST_KEY = pytest.StashKey[list[str]]()
LIBRARIES = (*VERSIONED, "pytest", "pytest-xdist")
PATIENCE = 120
"""Seconds for a host to say what it has: its disk may be slow."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LOST_KEY] = []
    if config.option.maxworkerrestart is None:
        # a host that is gone is tried again without end, and with --dist=loadgroup pytest-xdist 3.8 waits for ever once
        # a worker has been replaced (pytest-xdist#1323)
        config.option.maxworkerrestart = "0"


def pytest_configure_node(node: Any) -> None:
    """Before a worker starts: tell it which of its host's workers it is, of how many, and check that host."""
    spec, option = node.gateway.spec, node.config.option
    node.workerinput["place"] = find_place(spec, node.nodemanager.specs)
    if spec.popen and not spec.python and not spec.chdir:
        return  # this interpreter, in this folder
    try:
        check_host(node.gateway, node.config.rootpath, option.rootdir or os.path.relpath(node.config.rootpath))
    except ConversionError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_testnodedown(node: Any, error: object) -> None:
    if error:
        node.config.stash[LOST_KEY].append(f"{node.gateway.id} ({name_host(node.gateway.spec)})")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where a worker is lost between two tests, pytest-xdist stops the others and reports success."""
    if session.config.stash[LOST_KEY] and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lost := config.stash[LOST_KEY]:
        terminalreporter.write_line(f"Lost: {', '.join(lost)}. What was left to it may not have been run.", red=True)


def find_place(spec: Any, specs: list[Any]) -> tuple[int, int]:
    """Which of its host's workers a worker is, from zero, and how many there are; pytest-xdist counts all hosts'."""
    neighbours = [other for other in specs if name_host(other) == name_host(spec)]
    # by identity, since equal entries of --tx are equal; a worker that replaces another has the entry of that one
    return [other is spec for other in neighbours].index(True), len(neighbours)


def name_host(spec: Any) -> str:
    """Name a worker's host: what tells it from others."""
    places = (getattr(spec, name, None) for name in ("ssh", "vagrant_ssh", "socket", "via"))
    return " ".join(filter(None, places)) or "this host"


def check_host(gateway: Any, root: Path, root_there: str) -> None:
    """Refuse a host that would compute with other libraries, or with other code of this project.

    Raises:
        DeviceError: it would.
    """
    channel = gateway.remote_exec(
        f"{inspect.getsource(read_versions)}\nchannel.send(read_versions(*channel.receive()))"
    )
    channel.send((root_there, LIBRARIES))
    there, here = channel.receive(PATIENCE), read_versions(str(root), LIBRARIES)
    channel.waitclose()  # the host runs one thing at a time
    differing = [name for name in sorted(there.keys() | here) if there.get(name) != here.get(name)]
    if differing:
        raise DeviceError(
            f"{gateway.spec}: is not like this host, and its verdicts would be of something else.",
            [f"{name}: there {there.get(name, 'none')}, here {here.get(name, 'none')}" for name in differing],
            hint="Install the same versions there, and check out the same commit.",
        )


def read_versions(root: str, libraries: tuple[str, ...]) -> dict[str, str]:
    """Name to version, and file of the checkout to hash. Another host runs this alone: its imports are its own."""
    import hashlib
    import platform
    from importlib import metadata
    from pathlib import Path

    found = {name: next(iter(metadata.distributions(name=name)), None) for name in libraries}
    versions = {"python": platform.python_version()} | {name: each.version for name, each in found.items() if each}
    kinds = (".py", ".jinja", ".json", ".css", ".js")
    files = [path for name in ("conversion", "tests") for path in Path(root, name).rglob("*") if path.suffix in kinds]
    files += [path for name in ("conftest.py", "pyproject.toml") for path in Path(root).glob(name)]
    for path in files:
        text = path.read_text(encoding="utf-8")  # a checkout on Windows has other ends of lines
        versions[path.relative_to(root).as_posix()] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return versions
