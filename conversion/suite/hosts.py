"""Several hosts: what pytest-xdist divides among them by ``--tx`` is one thing and all done, or the run has not passed.

A plugin of ``conftest.py``. Hooks run on the host that the command is given on; workers are told their place.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import execnet
import pytest
from execnet.gateway_bootstrap import HostNotFound

from conversion.artifact.card import VERSIONED
from conversion.errors import ConversionError, DeviceError
from conversion.suite import fingerprint

LOST_KEY = pytest.StashKey[list[str]]()
LIBRARIES = (*VERSIONED, "pytest", "pytest-xdist")
PATIENCE = 120
"""Seconds for a host to say what it has: its disk may be slow."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LOST_KEY] = []
    option = config.option
    if option.tx and not option.numprocesses and option.maxworkerrestart is None:
        option.maxworkerrestart = "0"  # or a host that is gone, or cannot start, is tried again without end
    try:
        check_arguments(option.tx, config.invocation_params.args)
    except ConversionError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Say in a line that a host cannot be reached; pytest-xdist prints where it noticed."""
    try:
        yield
    except (HostNotFound, OSError) as error:
        asked = " and ".join(session.config.option.tx)
        message = f"{asked}: cannot all be started. What ssh says of it stands above; {error!r}."
        raise pytest.UsageError(message) from error


def pytest_configure_node(node: Any) -> None:
    """Before a worker starts."""
    node.workerinput["place"] = find_place(node.gateway.spec, node.nodemanager.specs)
    try:
        check_host(node.gateway, node.config.rootpath, node.config.option.rootdir)
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
    neighbours = [other for other in specs if find_host(other) == find_host(spec)]
    # by identity, since equal entries of --tx are equal; the worker that replaces another has the entry of that one
    return next((index for index, other in enumerate(neighbours) if other is spec), 0), len(neighbours)


def find_host(spec: Any) -> tuple[str, ...]:
    """What tells one host of ``--tx`` from another; empty, if it is this one."""
    return tuple(filter(None, (spec.ssh, spec.vagrant_ssh, spec.socket, spec.via)))


def name_host(spec: Any) -> str:
    """A host, for people."""
    return " ".join(find_host(spec)) or "this host"


def check_arguments(tx: list[str], arguments: tuple[str, ...]) -> None:
    """Refuse what pytest-xdist cannot tell another host, and would break off at.

    Raises:
        DeviceError: a test or a file is named by its path.
    """
    specs = [execnet.XSpec(re.sub(r"^\d+\*", "", text)) for text in tx]
    paths = [argument for argument in arguments if Path(argument.split("::")[0]).exists()]
    if paths and any(find_host(spec) for spec in specs):
        raise DeviceError(
            f"{', '.join(paths)}: another host cannot be told a path.",
            hint="Choose tests by -k. An option's path goes behind an equals sign, and must lead to the same there.",
        )


def check_host(gateway: Any, root: Path, given_root: str | None) -> None:
    """Refuse a host that would compute with other libraries, or with other code of this project.

    Args:
        given_root: of ``--rootdir``, which is the same there; else the project lies there as seen from here.

    Raises:
        DeviceError: it would.
    """
    spec, name = gateway.spec, name_host(gateway.spec)
    if not find_host(spec) and not spec.python and not spec.chdir:
        return  # this interpreter, in this folder
    try:
        channel = gateway.remote_exec(fingerprint)
        channel.send((given_root or os.path.relpath(root), LIBRARIES))
        versions, files = channel.receive(PATIENCE)
        channel.waitclose()  # the host runs one thing at a time
    except (EOFError, OSError, execnet.RemoteError, execnet.TimeoutError) as error:
        raise DeviceError(f"{name}: does not say what it would compute with: {error}") from error
    own_versions, own_files = fingerprint.take_fingerprint(str(root), LIBRARIES)
    problems = [
        f"{library} {versions[library]}, here {version}"
        for library, version in own_versions.items()
        if versions[library] != version
    ]
    other = sorted(file for file in own_files.keys() | files.keys() if own_files.get(file) != files.get(file))
    if not files:
        problems.append(f"no checkout of this project in {spec.chdir or 'its folder'}")
    elif other:
        problems.append(f"other code: {', '.join(other[:5])}{f' and {len(other) - 5} more' if other[5:] else ''}")
    if problems:
        raise DeviceError(
            f"{name}: is not like this host, and its verdicts would be of something else.",
            problems,
            hint="Install the same versions there, and check out the same commit.",
        )
