"""``--weights pretrained``, from a server on loopback: a verified artifact, or a clear error and nothing kept."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import write_synthetic_checkpoint
from conversion.state_dicts.folder import PARITY_CARD
from tests.support.commands import left_over, read_verdicts, run
from tests.support.http_server import Server, answer, send

NARROW = {"embed_dim": 96, "image_size": 70}
"""What the variant has otherwise here: with as many blocks, on less of them."""

NARROWING = f"""
from dataclasses import replace
from conversion.families import variants
row = variants._BY_NAME["dinov2_vits14"]
variants._BY_NAME[row.name] = replace(row, spec={{**row.spec, **{NARROW}}})
"""

VARIANT = replace(VARIANTS["dinov2_vits14"], spec={**VARIANTS["dinov2_vits14"].spec, **NARROW})
PATH = "/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"

# a line for the project's own file of checksums would say that synthetic weights are the official ones
ELSEWHERE = """
import pathlib, conversion.suite.subject
conversion.intake.download.CHECKSUMS = pathlib.Path("checksums.json").absolute()
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint as the authors publish theirs, of a narrow model."""
    files = write_synthetic_checkpoint(VARIANT, tmp_path_factory.mktemp("published"), seed=0)
    return files["checkpoint"].read_bytes()


def verify(here: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("TORCH_HOME", str(here))
    options = ("-k", "dinov2_vits14-", "--weights", "pretrained", "--mirror", server.url)
    return run(here, *options, "--save-artifacts", "--attention", "sdpa", plugin=NARROWING + ELSEWHERE)


def list_cache(here: Path) -> list[str]:
    cache = here / "hub" / "checkpoints"
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") if cache.exists() else []


def test_what_nobody_publishes_is_said_at_the_beginning(tmp_path: Path) -> None:
    """Whatever is chosen of the others."""
    unpublished = ", ".join(name for name, row in VARIANTS.items() if not row.is_published)
    code, output = run(tmp_path, "-v", "--weights=pretrained", "--collect-only", "-k", "dinov2_vits14-")
    assert code == 0, output
    assert f"parity: nothing is published, and nothing verified, of {unpublished}\n" in output
    assert "nothing is published" not in run(tmp_path, "-v", "--collect-only", "-k", "dinov2_vits14-")[1]


def test_a_broken_download_ends_in_a_verified_artifact(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script[PATH] = [answer(503), send(published, until=len(published) // 2), send(published)]
    code, output = verify(tmp_path, server, monkeypatch)
    assert code == 0, output
    assert left_over(tmp_path) == ["dinov2_vits14"]
    written = (tmp_path / "artifacts" / "dinov2_vits14" / PARITY_CARD).read_text()
    assert len(written) < 200_000
    card = json.loads(written)
    assert (card["source"]["weights"], card["verdict"]) == ("pretrained", "exact")
    assert "exact" in read_verdicts(output).values()
    (file,) = card["source"]["checkpoints"]["checkpoint"]["files"]
    digest = sha256(published).hexdigest()
    assert file == {"name": "dinov2_vits14_pretrain.pth", "bytes": len(published), "sha256": digest}
    recorded = json.loads((tmp_path / "checksums.json").read_text())
    assert recorded == {PATH[1:]: {"bytes": len(published), "sha256": digest}}
    assert list_cache(tmp_path) == ["dinov2_vits14_pretrain.pth"]
    assert len(server.requests) == 3
    assert "license: apache-2.0" in (tmp_path / "artifacts" / "dinov2_vits14" / "README.md").read_text()


@pytest.mark.parametrize("fault", ["absent", "cut", "another file"])
def test_what_cannot_be_had_is_said_and_leaves_nothing(
    fault: str, server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {PATH[1:]: {"bytes": len(published), "sha256": sha256(published).hexdigest()}}
    (tmp_path / "checksums.json").write_text(json.dumps(known))
    another = bytes(len(published))
    server.script[PATH] = {
        "absent": [answer(404)],
        "cut": [send(published, until=1000), answer(404)],
        "another file": [send(another)],
    }[fault]
    code, output = verify(tmp_path, server, monkeypatch)
    assert code == 1
    assert f"{server.url}{PATH}: cannot be downloaded" in output
    assert "Nothing was left behind" in output
    assert left_over(tmp_path) == []
    assert list_cache(tmp_path) == []
    assert json.loads((tmp_path / "checksums.json").read_text()) == known
