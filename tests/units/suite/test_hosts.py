"""A run divided between two hosts, over ssh."""

import re
from collections.abc import Iterator
from pathlib import Path

import execnet
import pytest

import conversion
from conversion.suite.hosts import find_place
from tests.support.commands import ROW, TINY, assert_refused, run
from tests.support.two_hosts import Hosts, find_missing, start_hosts

pytestmark = pytest.mark.xdist_group("hosts")  # one pair of hosts is enough
OF_BOTH = ("-k", "test_parity and (dinov2_vits14- or dinov2_vits14_reg-) and sdpa")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if missing := find_missing():
        pytest.skip(f"two hosts need {', '.join(missing)}: apt-get install openssh-server rsync")
    with start_hosts(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


def test_two_hosts_divide_the_variants_and_artifacts_are_gathered_on_one(hosts: Hosts) -> None:
    code, output = hosts.pytest(*OF_BOTH, "--save-artifacts")
    assert code == 0, output
    done = dict(re.findall(r"\[(gw\d)\].*PASSED.*\[(dinov2_\w+)-cpu", output))
    assert sorted(done.values()) == ["dinov2_vits14", "dinov2_vits14_reg"]
    assert [row["verdict"] for row in ROW.finditer(output)] == ["exact", "exact"]  # the table is of both
    assert [path.name for path in (hosts.here / "artifacts").glob("[!.]*")] == [done["gw0"]]
    assert [path.name for path in (hosts.there / "artifacts").glob("[!.]*")] == [done["gw1"]]
    assert not list(hosts.there.glob("*pytest/*")), "a pytest that is not its own"
    source, shell = f"other:{hosts.there}/artifacts/", f"ssh -F {hosts.ssh_config}"
    code, output = hosts.run("rsync", "-a", "--exclude=.*", "-e", shell, source, "artifacts/")
    assert code == 0, output
    gathered = sorted((hosts.here / "artifacts").glob("[!.]*"))
    assert [path.name for path in gathered] == sorted(done.values())
    for artifact in gathered:
        conversion.check_card(artifact)


def test_a_host_with_other_code_is_refused_and_nothing_is_run(hosts: Hosts) -> None:
    changed = hosts.there / "conversion" / "families" / "dinov2" / "key_map.py"
    text = changed.read_text(encoding="utf-8")
    changed.write_text(f"{text}# changed\n", encoding="utf-8")
    try:
        code, output = hosts.pytest(*OF_BOTH)
    finally:
        changed.write_text(text, encoding="utf-8")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "other: is not like this host" in output
    assert "other code: conversion/families/dinov2/key_map.py\n" in output
    assert "Traceback" not in output


def test_a_host_that_cannot_be_reached_is_refused(hosts: Hosts) -> None:
    code, output = hosts.pytest(*OF_BOTH, f"--tx=ssh=-p 9 -F {hosts.ssh_config} other")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "Connection refused" in output
    assert "cannot all be started" in output
    assert "INTERNALERROR" not in output


LOST_BETWEEN_TESTS = """
import os, pathlib, pytest, time
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    worker, collected = os.environ.get("PYTEST_XDIST_WORKER"), pathlib.Path("collected")
    if worker == "gw0":
        collected.touch()
    while worker == "gw1":
        if collected.exists():
            time.sleep(0.5)
            os._exit(1)
"""


def test_a_run_that_lost_a_worker_has_not_passed(here: Path) -> None:
    code, output = run(here, *TINY, "--tx=popen", "--tx=popen", "-v", plugin=LOST_BETWEEN_TESTS)
    assert code == 1
    assert "Lost: gw1 (this host)." in output
    assert "replacing" not in output


def test_what_another_host_cannot_be_told_is_refused(here: Path) -> None:
    assert_refused(here, (*TINY, "--tx=popen", "--tx=2*ssh=other"), "another host cannot be told a path")


def test_a_worker_knows_its_place_on_its_own_host() -> None:
    specs = [execnet.XSpec(text) for text in ("popen", "ssh=a//python=p", "popen", "ssh=b", "ssh=a//python=p")]
    assert [find_place(spec, specs) for spec in specs] == [(0, 2), (0, 2), (1, 2), (0, 1), (1, 2)]
