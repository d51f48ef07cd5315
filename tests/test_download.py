"""Downloads, from a real server that breaks off, lies and hangs: the right file, or none and a reason."""

import errno
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from ssl import SSLCertVerificationError

import pytest
import torch.hub
from urllib3.exceptions import SSLError

from conversion import download
from conversion.download import OFFICIAL, AnswerError, Checksum, cache_path, download_checkpoint, fetch, follow_redirect
from conversion.errors import CheckpointError
from conversion.variants import VARIANTS
from tests.server import ARRIVALS, BODY, OTHER, REFUSALS, Behaviour, Server, answer, send, serve, start_clients

KNOWN = Checksum(len(BODY), sha256(BODY).hexdigest())
MODEL = VARIANTS["dinov2_vits14"]
KEY = "dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
HEAD_KEY = "dinov2/dinov2_vits14/dinov2_vits14_linear_head.pth"
PRETRAINED = "dinov2_vits14_pretrain.pth"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited, one entry a wait."""
    waits: list[float] = []
    monkeypatch.setattr(download, "sleep", waits.append)
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "CHUNK", 1000)
    return waits


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.pth"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    previous = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(previous)


@pytest.fixture
def checksums(tmp_path: Path) -> Path:
    return tmp_path / "checksums.json"


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


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_checksums(path: Path, known: dict[str, Checksum]) -> str:
    path.write_text(json.dumps({key: asdict(entry) for key, entry in known.items()}, indent=2) + "\n")
    return path.read_text()


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
    assert error.hint == download.OTHER_WAYS
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
    assert error.hint == download.CHANGED
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
    assert waits == [1.0, 7.0, download.LONGEST_WAIT, 8.0, 16.0]


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
    assert download._is_final(SSLError(SSLCertVerificationError()))


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

    monkeypatch.setattr(download._Part, "append", refuse)
    with pytest.raises(CheckpointError, match=f"{target}: .*No space left") as caught:
        fetch_scripted(server, target, [send(BODY)])
    assert "Check free space" in caught.value.hint
    assert list_names(target.parent) == []


def test_fetch_leaves_nothing_when_interrupted(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        assert list_names(target.parent) == ["file.pth.partial"]
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_scripted(server, target, [send(BODY, until=4000)])
    assert list_names(target.parent) == []


def test_download_keeps_and_records_every_file(server: Server, cache: Path, checksums: Path) -> None:
    server.script = {f"/mirror/{KEY}": [send(BODY)], f"/mirror/{HEAD_KEY}": [send(OTHER[:99])]}
    paths = download_checkpoint(VARIANTS["dinov2_vits14_1layer"], checksums, f"{server.url}/mirror/")
    assert paths == {"checkpoint": cache / PRETRAINED, "linear_head": cache / "dinov2_vits14_linear_head.pth"}
    assert paths["checkpoint"].read_bytes() == BODY
    head = {"bytes": 99, "sha256": sha256(OTHER[:99]).hexdigest()}
    assert checksums.read_text() == json.dumps({HEAD_KEY: head, KEY: asdict(KNOWN)}, indent=2) + "\n"
    assert {name for name in list_names(cache) if not name.endswith(".lock")} == {path.name for path in paths.values()}
    assert download_checkpoint(VARIANTS["dinov2_vits14_1layer"], checksums, server.url) == paths
    assert len(server.requests) == 2


def test_download_leaves_what_is_recorded(server: Server, cache: Path, checksums: Path) -> None:
    before = write_checksums(checksums, {"a/b.pth": Checksum(1, "2"), KEY: KNOWN})
    server.script[f"/{KEY}"] = [send(OTHER), send(BODY)]
    with pytest.raises(CheckpointError, match="expected"):
        download_checkpoint(MODEL, checksums, server.url)
    assert not {PRETRAINED, f"{PRETRAINED}.partial"} & set(list_names(cache))
    download_checkpoint(MODEL, checksums, server.url)
    download._record(checksums, KEY, Checksum(3, "4"))
    assert checksums.read_text() == before


def test_download_goes_to_the_official_server(cache: Path, checksums: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", lambda url, *_: urls.append(url) or KNOWN)
    urls: list[str] = []
    download_checkpoint(MODEL, checksums)
    assert urls == [MODEL.files["checkpoint"]] == [f"{OFFICIAL}/{KEY}"]


@pytest.mark.parametrize("content", [OTHER, BODY[:-1]], ids=["bytes", "size"])
def test_cached_file_must_be_the_one_known(cache: Path, checksums: Path, content: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / PRETRAINED).write_bytes(content)
    assert download_checkpoint(MODEL, checksums) == {"checkpoint": cache / PRETRAINED}
    assert not checksums.exists()
    write_checksums(checksums, {KEY: KNOWN})
    with pytest.raises(CheckpointError) as caught:
        download_checkpoint(MODEL, checksums)
    assert str(cache / PRETRAINED) in caught.value.headline
    assert f"Delete {cache / PRETRAINED}" in caught.value.hint
    assert f"remove the line of {KEY} from {checksums}" in caught.value.hint
    assert list_names(cache) == [PRETRAINED]


def test_checksums_that_cannot_be_written_are_no_obstacle(server: Server, cache: Path, checksums: Path) -> None:
    checksums.with_name("checksums.json.lock").mkdir()
    server.script[f"/{KEY}"] = [send(BODY)]
    with pytest.warns(UserWarning, match=f"{checksums}: the checksum of {KEY} cannot be recorded"):
        assert download_checkpoint(MODEL, checksums, server.url)["checkpoint"].read_bytes() == BODY


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"bytes": 1}}'])
def test_checksums_that_are_none_are_refused(cache: Path, checksums: Path, content: str) -> None:
    checksums.write_text(content)
    with pytest.raises(CheckpointError, match=f"{checksums}: is not a file of checksums"):
        download_checkpoint(MODEL, checksums)


def test_unpublished_variant_is_refused(checksums: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ade20k: no checkpoint is published(.|\n)*--checkpoint"):
        download_checkpoint(VARIANTS["data2vec_vision_base_ade20k"], checksums)


def test_cache_names_are_of_one_url_each_and_those_of_torch_hub(cache: Path) -> None:
    files = {(cache_path(row, role), url) for row in VARIANTS.values() for role, url in row.files.items()}
    assert len(files) == len({path for path, _ in files}) == len({url for _, url in files})
    own = {path.name for path, url in files if path.name != url.split("/")[-1]}
    assert own == {
        "data2vec_vision_base-checkpoint-799.pth",
        "data2vec_vision_large-checkpoint-799.pth",
        "data2vec_vision_base_ft1k-mp_rank_00_model_states.pt",
        "data2vec_vision_large_ft1k-mp_rank_00_model_states.pt",
    }
    assert {path.parent for path, _ in files} == {cache}


def test_two_processes_download_once(server: Server, cache: Path, checksums: Path) -> None:
    server.script[f"/{KEY}"] = [send(BODY, pause=0.5)]
    clients = start_clients(2, server.url, cache, checksums)
    for client in clients:
        client.communicate(timeout=60)
    assert [client.returncode for client in clients] == [0, 0]
    assert len(server.requests) == 1
    assert (cache / PRETRAINED).read_bytes() == BODY


def test_killed_download_is_begun_again(server: Server, cache: Path, checksums: Path) -> None:
    server.script[f"/{KEY}"] = [send(OTHER, until=4000, hang=True), send(BODY)]
    (client,) = start_clients(1, server.url, cache, checksums)
    while not server.requests and client.poll() is None:
        time.sleep(0.01)
    client.kill()
    client.communicate()
    assert f"{PRETRAINED}.partial" in list_names(cache)
    assert download_checkpoint(MODEL, checksums, server.url)["checkpoint"].read_bytes() == BODY
    assert f"{PRETRAINED}.partial" not in list_names(cache)
    assert server.ranges == [(None, None)] * 2
