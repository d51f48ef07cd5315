"""Publishing on a server of our own that speaks the Hub's API."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub  # whose parts are imported when they are asked for
import pytest

from conversion.artifact.hub import name_on_the_hub, plan_push, push
from conversion.artifact.reading import read_card
from conversion.artifact.repository import find_repository
from conversion.artifact.weights import WEIGHTS
from conversion.errors import ArtifactError, PublishError
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import CONFIG, MODEL_CARD
from conversion.suite.publishing import publish
from conversion.suite.settings import Request
from tests.support.fake_hub_state import READ_ONLY, TOKEN, CutError, Hub, Repository
from tests.support.verified import edit

REPOSITORY = "us/dinov2-custom"


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny_reg"], tmp_path / "tiny"))


def api(hub: Hub, token: str = TOKEN) -> "huggingface_hub.HfApi":
    return huggingface_hub.HfApi(endpoint=hub.url, token=token)


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_repository_holds_exactly_the_artifact_in_one_commit(hub: Hub, artifact: Path) -> None:
    plan = plan_push(artifact, REPOSITORY)
    url = push(plan, api(hub))
    assert plan.repo_id == REPOSITORY
    assert url.startswith(f"{hub.url}/{REPOSITORY}/commit/")
    assert hub.files(REPOSITORY) == read(artifact)
    assert dict(plan.files) == {name: len(content) for name, content in read(artifact).items()}
    assert hub.repositories[REPOSITORY].private
    (message,) = hub.repositories[REPOSITORY].messages
    assert message.startswith(
        "dinov2_custom: 50 tensors bit for bit; close with eager in float32 on cpu, exact with sdpa"
    )


def test_official_weights_alone_have_a_name_of_their_own(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PublishError, match="its weights have no name"):
        plan_push(artifact, "us")
    card = read_card(artifact)
    card["source"]["weights"] = "pretrained"  # of a tiny model no file says so
    monkeypatch.setattr("conversion.artifact.hub.verify_artifact", lambda _: card)
    assert plan_push(artifact, "us").repo_id == REPOSITORY


def test_the_name_is_the_official_one_where_there_is_one_unless_it_is_given(artifact: Path) -> None:
    assert name_on_the_hub("dinov2_vitb14_reg_1layer") == "dinov2-with-registers-base-imagenet1k-1-layer"
    assert name_on_the_hub("data2vec_vision_large_ft1k") == "data2vec-vision-large-ft1k"
    assert name_on_the_hub("data2vec_vision_base_ade20k") == "data2vec-vision-base-ade20k"
    assert name_on_the_hub("dinov2_vits14", 224) == "dinov2-small-224"
    assert len({name_on_the_hub(name) for name in VARIANTS}) == len(VARIANTS)
    assert plan_push(artifact, "us/mine").repo_id == "us/mine"


def test_a_push_that_was_cut_is_repeated_and_sends_only_what_is_missing(
    hub: Hub, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client tries again by itself, and waits longer every time
    plan, hub.cuts = plan_push(artifact, REPOSITORY), 100
    with pytest.raises(PublishError, match="was not published"):
        push(plan, api(hub))
    assert (hub.files(REPOSITORY), hub.uploads) == ({}, [])
    hub.cuts = 0

    def lose() -> None:
        raise CutError

    hub.before_commit = lose
    with pytest.raises(PublishError, match="was not published"):
        push(plan, api(hub))
    assert (hub.files(REPOSITORY), len(hub.uploads)) == ({}, 1)
    hub.before_commit = lambda: None
    push(plan, api(hub))
    assert hub.files(REPOSITORY) == read(artifact)
    assert len(hub.uploads) == 1
    push(plan, api(hub))
    assert len(hub.repositories[REPOSITORY].messages) == 1, "there was nothing left to do"


def test_what_an_earlier_artifact_had_more_is_gone(hub: Hub, artifact: Path) -> None:
    old = read(artifact) | {"left_out.safetensors": b"left", "model-00001-of-00002.safetensors": b"shard"}
    hub.repositories[REPOSITORY] = Repository(private=True, files=old)
    push(plan_push(artifact, REPOSITORY), api(hub))
    assert hub.files(REPOSITORY) == read(artifact)


@pytest.mark.parametrize("files", [{"pytorch_model.bin": b"other"}, {CONFIG: b"{}", WEIGHTS: b"other"}])
def test_another_model_is_not_overwritten(files: dict[str, bytes], hub: Hub, artifact: Path) -> None:
    hub.repositories[REPOSITORY] = Repository(private=True, files=files)
    with pytest.raises(PublishError, match="holds something else; it is not overwritten"):
        push(plan_push(artifact, REPOSITORY), api(hub))
    assert hub.repositories[REPOSITORY].files == files


def test_nothing_becomes_public_unasked(hub: Hub, artifact: Path) -> None:
    push(plan_push(artifact, "us/open", public=True), api(hub))
    assert not hub.repositories["us/open"].private
    with pytest.raises(PublishError, match="is public already"):
        push(plan_push(artifact, "us/open"), api(hub))
    push(plan_push(artifact, "us/later"), api(hub))
    assert hub.repositories["us/later"].private
    push(plan_push(artifact, "us/later", public=True), api(hub))
    assert not hub.repositories["us/later"].private


def test_files_that_arrived_are_not_called_unpublished_where_they_stay_private(
    hub: Hub, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = api(hub)
    push(plan_push(artifact, "us/open"), own)
    with monkeypatch.context() as patch:
        patch.setattr(own, "update_repo_settings", Mock(side_effect=OSError("no answer")))
        with pytest.raises(PublishError, match=r"its files have arrived, and it is still private: .*no answer"):
            push(plan_push(artifact, "us/open", public=True), own)
    assert hub.files("us/open") == read(artifact)
    push(plan_push(artifact, "us/open", public=True), own)
    assert not hub.repositories["us/open"].private


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, MODEL_CARD])
def test_a_file_that_was_changed_after_it_was_verified_is_not_sent(name: str, hub: Hub, artifact: Path) -> None:
    plan = plan_push(artifact, REPOSITORY)
    with (artifact / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(PublishError, match=rf"is not what was verified\.\n  - {name}: was changed since"):
        push(plan, api(hub))
    assert hub.files(REPOSITORY) == {}


@pytest.mark.parametrize("token", ["hf_wrong", READ_ONLY])
def test_a_refused_token_is_said_and_not_shown(token: str, hub: Hub, artifact: Path) -> None:
    with pytest.raises(PublishError, match="was not published") as raised:
        push(plan_push(artifact, REPOSITORY), api(hub, token))
    assert "HF_TOKEN" in str(raised.value)
    assert token not in str(raised.value)
    assert hub.repositories == {}


def test_a_commit_of_somebody_else_in_between_is_not_undone(hub: Hub, artifact: Path) -> None:
    hub.before_commit = lambda: hub.repositories[REPOSITORY].messages.append("somebody else's")
    with pytest.raises(PublishError, match="was not published"):
        push(plan_push(artifact, REPOSITORY), api(hub))
    assert hub.files(REPOSITORY) == {}


@pytest.mark.parametrize(("weights", "seed"), [("synthetic", 0), ("unknown", None)])
def test_weights_that_nobody_trained_are_refused(weights: str, seed: int | None, artifact: Path) -> None:
    edit(artifact, lambda card: card.update(source={"weights": weights, "seed": seed, "checkpoints": {}}))
    with pytest.raises(PublishError, match=f"has {weights} weights"):
        plan_push(artifact, REPOSITORY)


def test_what_is_not_verified_is_refused(artifact: Path) -> None:
    content = (artifact / WEIGHTS).read_bytes()
    (artifact / WEIGHTS).write_bytes(content[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="is not verified"):
        plan_push(artifact, REPOSITORY)


def test_an_artifact_without_its_model_card_is_not_whole(artifact: Path) -> None:
    (artifact / MODEL_CARD).unlink()
    with pytest.raises(
        PublishError, match=rf"tiny: is not whole\.\n  - {MODEL_CARD}: not there\nConvert the checkpoint"
    ):
        plan_push(artifact, REPOSITORY)


def test_a_repository_that_is_gone_once_it_was_made_is_said(
    hub: Hub, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(name: str, client: "huggingface_hub.HfApi") -> Any:
        del hub.repositories[name]  # as somebody else may delete it
        return find_repository(name, client)

    monkeypatch.setattr("conversion.artifact.hub.find_repository", lose)
    with pytest.raises(PublishError, match=r"the Hub made it, and does not find it\.\nRun the same again\.$"):
        push(plan_push(artifact, REPOSITORY), api(hub))


def test_what_the_hub_refuses_of_one_artifact_is_said(
    hub: Hub, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversion.suite.publishing.push", lambda plan: push(plan, api(hub, READ_ONLY)))
    request, written = Request(target=REPOSITORY, artifacts=artifact.parent, is_agreed=True), list[str]()
    assert not publish(request, [artifact.name], written.append, input)
    assert written[-1].startswith(f"{REPOSITORY}: was not published: ")
    assert hub.repositories == {}


def test_one_repository_is_for_one_variant(tmp_path: Path) -> None:
    request, written = Request(target="us/mine", artifacts=tmp_path), list[str]()
    assert not publish(request, ["dinov2_vits14", "dinov2_vitb14"], written.append, lambda _: "y")
    assert "one repository for 2 variants" in written[0]


@pytest.mark.parametrize(("answer", "is_published"), [("y\n", True), ("Yes", True), ("", False), ("no", False)])
def test_the_user_is_asked(
    answer: str, is_published: bool, hub: Hub, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversion.suite.publishing.push", lambda plan: push(plan, api(hub)))
    request, written = Request(target=REPOSITORY, artifacts=artifact.parent), list[str]()
    assert publish(request, [artifact.name], written.append, lambda _: answer) == is_published
    assert (REPOSITORY in hub.repositories) == is_published
