"""Fetching a file from a real server that breaks off, lies and hangs: the right one, or none and a reason."""

import errno
import time
from hashlib import sha256
from pathlib import Path
from ssl import SSLCertVerificationError

import pytest
from urllib3.exceptions import SSLError

from conversion.errors import CheckpointError
from conversion.intake import fetching
from conversion.intake.fetching import AnswerError, Checksum, fetch, follow_redirect
from tests.support.http_server import ARRIVALS, BODY, KNOWN, OTHER, REFUSALS, Behaviour, Server, answer, send, serve
from tests.support.listed import list_names

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.pth"


def fetch_scripted(server: Server, target: Path, script: list[Behaviour], known: Checksum | None = None) -> Checksum:
    server.script["/file.pth"] = script
    return fetch(f"{server.url}/file.pth", target, known)


def fail_scripted(server: Server, target: Path, *script: Behaviour, known: Checksum | None = None) -> CheckpointError:
    """The error, once it has been seen to name what it must, and to leave nothing."""
    with pytest.raises(CheckpointError) as caught:
        fetch_scripted(server, target, [*script], known)
    assert f"{server.url}/file.pth" in caught.value.headline
    assert str(target) in caught.value.headline
    assert list_names(target.parent) == []
    return caught.value


@pytest.mark.parametrize("known", [None, KNOWN], ids=["unknown", "known"])
@pytest.mark.parametrize(("script", "asked"), ARRIVALS.values(), ids=ARRIVALS)
def test_fetch_ends_with_the_file(
    server: Server, target: Path, script: list[Behaviour], asked: list[object], known: Checksum | None
) -> None:
    assert fetch_scripted(server, target, script, known) == KNOWN
    assert target.read_bytes() == BODY
    assert list_names(target.parent) == [target.name]
    assert server.ranges == asked
    assert {request.headers["Accept-Encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize(("script", "count", "problem"), REFUSALS.values(), ids=REFUSALS)
def test_fetch_says_why_there_is_none(
    server: Server, target: Path, waits: list[float], script: list[Behaviour], count: int, problem: str
) -> None:
    error = fail_scripted(server, target, *script)
    assert problem in error.problems[0]
    assert error.hint == fetching.OTHER_WAYS
    assert len(server.requests) == count
    assert waits == ([1.0, 2.0, 4.0, 8.0, 16.0] if len(error.problems) > 1 else [])


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (send(OTHER), f"sha256 {sha256(OTHER).hexdigest()}, expected {KNOWN.sha256}"),
        (send(BODY, length=len(BODY) - 1, until=0), f"bytes {len(BODY) - 1}, expected {len(BODY)}"),
        (send(BODY[:-1], length=-1), f"bytes {len(BODY) - 1}, expected {len(BODY)}; sha256"),
    ],
)
def test_fetch_refuses_another_file(server: Server, target: Path, script: Behaviour, problem: str) -> None:
    error = fail_scripted(server, target, script, known=KNOWN)
    assert error.problems[0].startswith(problem)
    assert error.hint == fetching.CHANGED
    assert len(server.requests) == 1


def test_fetch_notices_a_server_that_hangs(server: Server, target: Path) -> None:
    start = time.monotonic()
    assert fetch_scripted(server, target, [send(BODY, until=4000, hang=True), send(BODY)]) == KNOWN
    assert time.monotonic() - start < 10
    assert len(server.requests) == 2


def test_fetch_gives_up_where_nobody_listens(target: Path, waits: list[float]) -> None:
    with pytest.raises(CheckpointError, match="htp"):
        fetch("htp://127.0.0.1/file.pth", target)
    assert waits == []
    with serve() as server:
        pass
    assert "refused" in fail_scripted(server, target).problems[0]


def test_fetch_waits_longer_each_time_and_as_long_as_asked(server: Server, target: Path, waits: list[float]) -> None:
    busy = [answer(status, {"Retry-After": wait}) for status, wait in [(503, "7"), (429, "86400"), (500, "soon")]]
    assert fetch_scripted(server, target, [answer(502), *busy, answer(504), send(BODY)]) == KNOWN
    assert waits == [1.0, 7.0, fetching.LONGEST_WAIT, 8.0, 16.0]


def test_fetch_follows_redirects(server: Server, target: Path) -> None:
    server.script["/elsewhere"] = [send(BODY, until=4000), send(BODY)]
    assert fetch_scripted(server, target, [answer(302, {"Location": "/elsewhere"})]) == KNOWN
    assert [request.path for request in server.requests] == ["/file.pth", "/elsewhere"] * 2


def test_redirect_out_of_encryption_is_refused() -> None:
    assert follow_redirect("https://a/x", "/y") == "https://a/y"
    assert follow_redirect("http://a/x", "https://b/y") == "https://b/y"
    for location in ("http://a/y", "HTTP://a/y", "ftp://a/y"):
        with pytest.raises(AnswerError, match="redirected from https"):
            follow_redirect("https://a/x", location)


def test_untrusted_certificate_is_not_tried_again() -> None:
    assert fetching._is_final(SSLError(SSLCertVerificationError()))


def test_fetch_goes_through_a_proxy(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.script["http://example.invalid/file.pth"] = [send(BODY)]
    assert fetch("http://example.invalid/file.pth", target) == KNOWN


def test_fetch_replaces_what_a_killed_process_left(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.pth.partial").write_bytes(OTHER * 2)
    assert fetch_scripted(server, target, [send(BODY)]) == KNOWN
    assert target.read_bytes() == BODY
    assert list_names(target.parent) == [target.name]


def test_fetch_reports_a_full_disk(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching._Part, "append", refuse)
    with pytest.raises(CheckpointError, match=f"{target}: .*No space left") as caught:
        fetch_scripted(server, target, [send(BODY)])
    assert "Check free space" in caught.value.hint
    assert list_names(target.parent) == []


def test_fetch_leaves_nothing_when_interrupted(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        assert list_names(target.parent) == ["file.pth.partial"]
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_scripted(server, target, [send(BODY, until=4000)])
    assert list_names(target.parent) == []
