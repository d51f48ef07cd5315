"""Official downloads into the cache of torch.hub, from a real server: recorded once, and checked ever after."""

import json
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest

from conversion.errors import CheckpointError
from conversion.families.variants import VARIANTS
from conversion.intake import download
from conversion.intake.download import cache_path, download_checkpoint
from conversion.intake.fetching import Checksum
from tests.support.http_server import BODY, KNOWN, OTHER, Server, send, start_clients
from tests.support.listed import list_names

pytestmark = pytest.mark.usefixtures("waits")

MODEL = VARIANTS["dinov2_vits14"]
HOSTS = ("dl.fbaipublicfiles.com", "github.com", "huggingface.co")
KEY = "dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
HEAD_KEY = "dinov2/dinov2_vits14/dinov2_vits14_linear_head.pth"
PRETRAINED = "dinov2_vits14_pretrain.pth"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def checksums(tmp_path: Path) -> Path:
    return tmp_path / "checksums.json"


def write_checksums(path: Path, known: dict[str, Checksum]) -> str:
    path.write_text(json.dumps({key: asdict(entry) for key, entry in known.items()}, indent=2) + "\n")
    return path.read_text()


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


@pytest.mark.parametrize("name", [name for name, row in VARIANTS.items() if row.is_published])
def test_every_official_file_comes_from_its_own_address_or_from_the_mirror(
    name: str, cache: Path, checksums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "fetch", lambda url, *_: urls.append(url) or KNOWN)
    urls: list[str] = []
    official = list(VARIANTS[name].files.values())
    download_checkpoint(VARIANTS[name], checksums)
    assert urls == official
    recorded = json.loads(checksums.read_text())
    assert {f"https://{host}/{key}" for key in recorded for host in HOSTS} >= set(official)
    urls.clear()
    download_checkpoint(VARIANTS[name], checksums, "http://mirror/of/all/")
    assert urls == [f"http://mirror/of/all/{key}" for url in official for key in recorded if url.endswith(key)]


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
    assert f"remove the entry of {KEY} from {checksums}" in caught.value.hint
    assert list_names(cache) == [PRETRAINED]


def test_a_cached_file_that_cannot_be_read_is_said_to_be_so(cache: Path, checksums: Path) -> None:
    (cache / PRETRAINED).mkdir(parents=True)
    write_checksums(checksums, {KEY: KNOWN})
    with pytest.raises(CheckpointError, match=f"{PRETRAINED}: cannot be read: .*directory"):
        download_checkpoint(MODEL, checksums)


def test_checksums_that_cannot_be_written_are_no_obstacle(server: Server, cache: Path, checksums: Path) -> None:
    checksums.with_name("checksums.json.lock").mkdir()
    server.script[f"/{KEY}"] = [send(BODY)]
    with pytest.warns(UserWarning, match=f"{checksums}: the checksum of {KEY} cannot be recorded"):
        assert download_checkpoint(MODEL, checksums, server.url)["checkpoint"].read_bytes() == BODY


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[]", '{"a": 1}', '{"a": {"bytes": 1}}'])
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
