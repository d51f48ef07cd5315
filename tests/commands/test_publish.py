"""Publishing: the Hub is asked before anything is made; what has passed is shown, asked about, and sent."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conversion.artifact.weights import WEIGHTS
from conversion.cli.app import main
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from conversion.suite import plugin
from conversion.suite.settings import Request
from tests.support.commands import ALSO_BY_WORKERS, FAILING, assert_refused, left_over, run
from tests.support.fake_hub import use
from tests.support.fake_hub_state import READ_ONLY, STRANGER, TOKEN, Hub, Repository
from tests.support.golden import list_options, read_golden
from tests.support.terminal import run_in_a_terminal

REPOSITORY = "us/dinov2-custom"
SAVE = ("--save-artifacts", f"--push-to-hub={REPOSITORY}", "--yes")
PRETRAINED = ("--push-to-hub=us", "--weights=pretrained", "--save-artifacts")
NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens to

OURS = {CONFIG: b"{}", WEIGHTS: b"weights", PARITY_CARD: b'{"variant": "dinov2_custom"}'}
OTHERS = {**OURS, PARITY_CARD: b'{"variant": "dinov2_vits14"}'}


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def list_changes(hub: Hub) -> list[str]:
    """The requests that change something."""
    return [request for request in hub.requests if not request.startswith(("GET ", "HEAD "))]


class TestOptions:
    """From pytest's command line, in a process of its own."""

    @pytest.fixture
    def checkpoint(self, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
        assert hub.repositories == {}
        torch.save(read_golden("dinov2_tiny_reg").backbone, tmp_path / "tiny.pth")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        return "--checkpoint=tiny.pth", *list_options("dinov2_tiny"), "--attention=sdpa"

    def test_what_passed_is_shown_and_published(self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path) -> None:
        code, output = run(tmp_path, *checkpoint, *SAVE)
        assert code == 0, output
        assert "dinov2_custom to us/dinov2-custom, private: README.md, config.json, model.safetensors" in output
        assert f"{REPOSITORY}: published, {hub.url}/{REPOSITORY}/commit/" in output
        assert hub.files(REPOSITORY) == read(tmp_path / "artifacts" / "dinov2_custom")
        assert TOKEN not in output

    def test_whoever_sits_at_a_terminal_is_asked(
        self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        shown = run_in_a_terminal(tmp_path, *checkpoint, *SAVE[:2], typed=b"yes\n")
        assert "Publish? [y/N] " in shown
        assert hub.files(REPOSITORY) == read(tmp_path / "artifacts" / "dinov2_custom")

    def test_where_nobody_can_be_asked_nothing_is_published(
        self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path
    ) -> None:
        code, output = run(tmp_path, *checkpoint, *SAVE[:2])
        assert code == 1
        assert "Nobody is there to be asked: --yes answers for them." in output
        assert output.rstrip().endswith("Nothing was published.")
        assert hub.repositories == {}

    def test_what_failed_is_not_published_nor_what_an_earlier_run_left(
        self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path
    ) -> None:
        assert run(tmp_path, *checkpoint, "--save-artifacts")[0] == 0
        code, output = run(tmp_path, *checkpoint, *SAVE, plugin=FAILING)
        assert code == 1
        assert output.rstrip().endswith("Nothing was published.")
        assert hub.repositories == {}

    def test_a_token_that_may_not_write_is_refused_before_anything_is_made(
        self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", READ_ONLY)
        said = f"{REPOSITORY}: cannot be published to.\n  - the token 'laptop' of alice may only read"
        self.refuse(tmp_path, (*checkpoint, *SAVE), said)
        assert [request for request in hub.requests if "agent" not in request] == ["GET /api/whoami-v2"]

    @ALSO_BY_WORKERS
    def test_a_place_that_is_taken_is_refused_before_anything_is_made(
        self, workers: tuple[str, ...], checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path
    ) -> None:
        hub.repositories[REPOSITORY] = Repository(private=True, files=OTHERS)
        said = f"{REPOSITORY}: holds dinov2_vits14, not dinov2_custom; it is not overwritten."
        self.refuse(tmp_path, (*checkpoint, *SAVE, *workers), said)
        assert hub.requests.count("GET /api/whoami-v2") == 1
        assert hub.requests.count(f"GET /api/models/{REPOSITORY}") == 1
        assert list_changes(hub) == []

    def test_the_repository_of_every_variant_is_looked_at(
        self, checkpoint: tuple[str, ...], hub: Hub, tmp_path: Path
    ) -> None:
        assert checkpoint
        hub.repositories["us/dinov2-base"] = Repository(private=False, files=OURS)
        options = ("--weights=pretrained", "--save-artifacts", f"--mirror={NOWHERE}", "-k", "dinov2_vitb14- or reg-")
        self.refuse(tmp_path, (*options, "--push-to-hub=us"), "us/dinov2-base: holds dinov2_custom, not dinov2_vitb14")
        looked_at = {request for request in hub.requests if "/api/models/" in request}
        registers = [f"GET /api/models/us/dinov2-with-registers-{size}" for size in ("small", "base", "large", "giant")]
        assert looked_at == {"GET /api/models/us/dinov2-base", *registers}

    def test_one_repository_is_for_one_variant(self, checkpoint: tuple[str, ...], tmp_path: Path) -> None:
        assert checkpoint
        options = ("--weights=pretrained", "--save-artifacts", f"--mirror={NOWHERE}", "-k", "dinov2_vits14")
        self.refuse(tmp_path, (*options, "--push-to-hub=us/mine"), "us/mine: one repository for 6 variants")

    def test_a_hub_that_cannot_be_reached_is_said_at_once(
        self, checkpoint: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        self.refuse(tmp_path, (*checkpoint, *SAVE), f"{REPOSITORY}: the Hub cannot be reached.")

    def refuse(self, here: Path, options: tuple[str, ...], said: str) -> None:
        code, output = run(here, *options)
        assert code == pytest.ExitCode.USAGE_ERROR, output
        assert output.count(said) == 1, output
        assert "Traceback" not in output
        assert "INTERNALERROR" not in output
        assert left_over(here) == []


def test_the_hub_is_asked_once_however_many_workers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[object]()
    monkeypatch.setattr(plugin, "check_places", lambda _, names: asked.append(names))
    config = SimpleNamespace(stash=pytest.Stash(), option=SimpleNamespace(image_size=None, attention=["eager"]))
    specs = {"dinov2_vits14": load_family("dinov2").spec_of(VARIANTS["dinov2_vits14"])}
    config.stash[plugin.SUBJECT_KEY], config.stash[plugin.REQUEST_KEY] = specs, Request()
    for _ in range(3):
        plugin._check_selected(config, {"dinov2_vits14", None})
    assert asked == [specs]


# options: what is said at once
CONTRADICTIONS = {
    ("--push-to-hub=us", "--save-artifacts"): "synthetic weights are not published",
    ("--push-to-hub=us", "--weights=pretrained"): "publishes what --save-artifacts keeps",
    ("--public",): "belong to --push-to-hub",
    ("--yes",): "belong to --push-to-hub",
    ("--push-to-hub=", "--weights=pretrained", "--save-artifacts"): "cannot be a namespace, or NAMESPACE/NAME",
    ("--push-to-hub=us/", "--weights=pretrained", "--save-artifacts"): "cannot be a namespace, or NAMESPACE/NAME",
    ("--push-to-hub=us/a/b", "--weights=pretrained", "--save-artifacts"): "cannot be a namespace, or NAMESPACE/NAME",
    ("--push-to-hub=us/a--b", "--weights=pretrained", "--save-artifacts"): "cannot be a namespace, or NAMESPACE/NAME",
    ("--push-to-hub=us", "--checkpoint=any.pth", "--save-artifacts"): "Give one: us/NAME",
    (*PRETRAINED, "-d", "--tx=ssh=elsewhere"): "--push-to-hub: artifacts of other hosts do not lie here.",
    PRETRAINED: "nobody is logged in",
}


@pytest.mark.parametrize("options", CONTRADICTIONS, ids=" ".join)
def test_what_cannot_be_published_is_refused_before_anything_is_made(
    options: tuple[str, ...], hub: Hub, tmp_path: Path
) -> None:
    assert_refused(tmp_path, options, CONTRADICTIONS[options])
    assert hub.requests == []


# what lies on the Hub, and who asks: what is said
REFUSED: dict[str, tuple[Repository | None, str | None, str]] = {
    "public": (Repository(private=False, files=OURS), TOKEN, "is public already.\nSay --public"),
    "another variant": (Repository(private=True, files=OTHERS), TOKEN, "holds dinov2_vits14, not dinov2_custom"),
    "another model": (Repository(private=True, files={CONFIG: b""}), TOKEN, "holds something else"),
    "nobody": (None, None, "nobody is logged in"),
    "a reader": (None, READ_ONLY, "may only read"),
    "a stranger": (None, STRANGER, "us is none of these"),
    "an unknown token": (None, "hf_wrong", "does not accept the token"),
}


class TestCommand:
    """``vision-parity publish``, in this process."""

    @pytest.fixture
    def artifact(self, made: dict[str, Path], tmp_path: Path) -> Path:
        return Path(shutil.copytree(made["dinov2_tiny_reg"], tmp_path / "tiny"))

    @pytest.fixture
    def publish(
        self, artifact: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Callable[..., tuple[int, str]]:
        assert hub.repositories == {}
        monkeypatch.setenv("HF_TOKEN", TOKEN)

        def publish(*options: str, target: str = REPOSITORY) -> tuple[int, str]:
            capsys.readouterr()  # what was written before
            status = main(["publish", str(artifact), target, *options])
            captured = capsys.readouterr()
            return status, captured.out + captured.err

        return publish

    def test_what_is_verified_is_published(
        self, publish: Callable[..., tuple[int, str]], artifact: Path, hub: Hub
    ) -> None:
        status, output = publish("--yes")
        assert status == 0, output
        assert hub.files(REPOSITORY) == read(artifact)
        assert f"tiny to {REPOSITORY}, private: README.md, config.json, model.safetensors" in output
        assert f"{REPOSITORY}: published, {hub.url}/{REPOSITORY}/commit/" in output
        assert publish("--yes")[0] == 0, "the same may take its own place"

    @pytest.mark.parametrize(("answer", "is_sent"), [("y\n", True), ("n\n", False), ("", False)])
    def test_whoever_is_there_is_asked(
        self, answer: str, is_sent: bool, publish: Callable[..., Any], hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        status, output = publish()
        assert "Publish? [y/N]" in output
        assert (status == 0, REPOSITORY in hub.repositories) == (is_sent, is_sent)
        assert ("Nothing was sent." in output) == (answer == "n\n")

    @pytest.mark.parametrize("what", REFUSED)
    def test_the_hub_is_asked_before_anything_is_verified(
        self,
        what: str,
        publish: Callable[..., tuple[int, str]],
        artifact: Path,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (artifact / WEIGHTS).write_bytes(b"")  # what verification would refuse
        repository, token, said = REFUSED[what]
        if repository:
            hub.repositories[REPOSITORY] = repository
        if token is None:
            monkeypatch.delenv("HF_TOKEN")
        else:
            monkeypatch.setenv("HF_TOKEN", token)
        status, output = publish("--yes")
        assert status == 2
        assert output.startswith(f"{REPOSITORY}: ")
        assert output.count(said) == 1
        assert list_changes(hub) == []

    def test_what_is_not_verified_is_not_published(
        self, publish: Callable[..., tuple[int, str]], artifact: Path, hub: Hub
    ) -> None:
        (artifact / WEIGHTS).write_bytes(b"")
        status, output = publish("--yes")
        assert (status, list_changes(hub)) == (2, [])
        assert "is not verified" in output

    def test_a_hub_that_cannot_be_reached_is_said(
        self, publish: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(NOWHERE, tmp_path / "huggingface", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        status, output = publish("--yes")
        assert status == 2
        assert output.startswith(f"{REPOSITORY}: the Hub cannot be reached.\n")
        status, output = publish("--dry-run")
        assert status == 0
        assert f"tiny to {REPOSITORY}, private: README.md" in output
        assert f"{REPOSITORY}: the Hub cannot be reached." in output

    def test_a_dry_run_needs_no_login(
        self, publish: Callable[..., tuple[int, str]], hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HF_TOKEN")
        status, output = publish("--dry-run")
        assert status == 0, output
        assert f"tiny to {REPOSITORY}, private: README.md, config.json, model.safetensors" in " ".join(output.split())
        assert "it would be made, private" in " ".join(output.split())
        assert output.endswith("Nothing was sent.\n")
        assert "GET /api/whoami-v2" not in hub.requests
        hub.repositories[REPOSITORY] = Repository(private=False, files=OURS)
        status, output = publish("--dry-run")
        assert status == 2
        assert f"{REPOSITORY}: is public already." in " ".join(output.split())
        status, output = publish("--dry-run", "--public")
        assert status == 0
        assert f"{REPOSITORY}: is public, holds dinov2_custom, which would be replaced." in " ".join(output.split())
        assert list_changes(hub) == []

    @pytest.mark.parametrize("target", ["", "us/", "us/a/b", "a b"])
    def test_what_is_no_repository_is_refused(self, target: str, publish: Callable[..., tuple[int, str]]) -> None:
        status, output = publish("--dry-run", target=target)
        assert status == 2
        assert "cannot be a namespace, or NAMESPACE/NAME" in output
