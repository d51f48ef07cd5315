"""What is asked of the Hub before anything is made: who is logged in, and what lies where an artifact is to go."""

import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from conversion.artifact.repository import (
    check_login,
    check_repositories,
    describe_error,
    describe_place,
    find_obstacle,
    find_repository,
)
from conversion.artifact.weights import WEIGHTS
from conversion.errors import PublishError
from conversion.state_dicts.folder import CONFIG, PARITY_CARD
from tests.support.fake_hub import use
from tests.support.fake_hub_state import READ_ONLY, STRANGER, TOKEN, Hub, Repository, describe_user

NAME = "us/tiny"
OURS = {CONFIG: b"{}", WEIGHTS: b"weights", PARITY_CARD: b'{"variant": "dinov2_custom"}'}
OTHERS = {**OURS, PARITY_CARD: b'{"variant": "dinov2_vits14"}'}


def api(hub: Hub, token: str | bool = TOKEN) -> "huggingface_hub.HfApi":
    return huggingface_hub.HfApi(endpoint=hub.url, token=token)


def check(hub: Hub, *, public: bool = False, variant: str = "dinov2_custom") -> None:
    check_repositories({NAME: variant}, public=public, api=api(hub))


def test_a_repository_that_is_not_there_will_be_made(hub: Hub) -> None:
    assert find_repository(NAME, api(hub)) is None
    check(hub)


def test_a_repository_is_found_as_it_is(hub: Hub) -> None:
    hub.repositories[NAME] = Repository(private=True, files={**OURS, ".gitattributes": b""})
    found = find_repository(NAME, api(hub))
    assert found is not None
    assert (found.is_public, found.files, found.variant) == (False, frozenset(OURS), "dinov2_custom")
    assert found.sha == hub.repositories[NAME].sha
    check(hub)
    check(hub, public=True)
    assert find_repository(NAME, api(hub, token=STRANGER)) is None, "it is private"
    assert find_repository(NAME, api(hub, token=False)) is None


def test_an_empty_repository_is_taken(hub: Hub) -> None:
    hub.repositories[NAME] = Repository(private=True)
    check(hub)


# what lies there: what is said of it
TAKEN: dict[str, tuple[Repository, str]] = {
    "public": (Repository(private=False, files=OURS), "us/tiny: is public already.\nSay --public"),
    "public and empty": (Repository(private=False), "us/tiny: is public already"),
    "another variant": (Repository(private=True, files=OTHERS), "us/tiny: holds dinov2_vits14, not dinov2_custom; it"),
    "no card": (Repository(private=True, files={CONFIG: b"{}"}), f"holds something else.*no {PARITY_CARD} in it"),
    "another file": (
        Repository(private=True, files={**OURS, "a.bin": b""}),
        "not of an artifact: a.bin",
    ),
    "no JSON": (
        Repository(private=True, files={**OURS, PARITY_CARD: b"<"}),
        "a parity.json that names no variant",
    ),
    "a list": (
        Repository(private=True, files={**OURS, PARITY_CARD: b"[]"}),
        "a parity.json that names no variant",
    ),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_lies_there_is_not_overwritten(what: str, hub: Hub) -> None:
    hub.repositories[NAME], said = TAKEN[what]
    with pytest.raises(PublishError, match=f"(?s){said}") as raised:
        check(hub)
    assert raised.value.hint


def test_any_variant_may_take_a_place_where_none_is_known(hub: Hub) -> None:
    hub.repositories[NAME] = Repository(private=True, files=OTHERS)
    check(hub, variant="")


def test_every_repository_is_named_that_cannot_be_published_to(hub: Hub) -> None:
    hub.repositories["us/open"] = Repository(private=False, files=OURS)
    hub.repositories["us/other"] = Repository(private=True, files={"model.onnx": b""})
    places = {"us/open": "dinov2_custom", "us/other": "dinov2_custom", "us/new": "dinov2_custom"}
    with pytest.raises(PublishError, match="2 of 3 repositories") as raised:
        check_repositories(places, public=False, api=api(hub))
    problems = raised.value.problems
    assert problems[0] == "us/open: is public already."
    assert problems[1].startswith(
        "us/other: holds something else; it is not overwritten. not of an artifact: model.onnx"
    )
    assert raised.value.hint == "Say --public, if this is to be public, too. Choose another name, NAMESPACE/NAME."


@pytest.mark.parametrize("target", ["us", NAME, "alice", "alice/tiny", "Us/tiny"])
def test_whoever_may_write_is_let_in(target: str, hub: Hub) -> None:
    check_login(target, api(hub))


# target and token: what is said
REFUSED = {
    ("them/tiny", TOKEN): "alice is logged in, and may write to alice, us; them is none of these",
    ("us", STRANGER): "bob is logged in, and may write to bob, them; us is none of these",
    (NAME, READ_ONLY): "the token 'laptop' of alice may only read",
    (NAME, "hf_wrong"): "us/tiny: the Hub does not accept the token",
}


@pytest.mark.parametrize(("target", "token"), REFUSED)
def test_whoever_may_not_write_is_told_why(target: str, token: str, hub: Hub) -> None:
    with pytest.raises(PublishError) as raised:
        check_login(target, api(hub, token))
    assert REFUSED[target, token] in str(raised.value)
    assert "hf auth login" in raised.value.hint
    assert token not in str(raised.value)
    assert [request for request in hub.requests if not request.startswith("GET")] == []


def test_nobody_is_logged_in(hub: Hub) -> None:
    with pytest.raises(PublishError, match="us: nobody is logged in"):
        check_login("us")
    assert hub.requests == []


def grant(*scoped: tuple[str, str]) -> dict[str, Any]:
    """Whoever has a fine-grained token: the names of what it is for, each with what it may do there."""
    user = describe_user("alice", "fineGrained", us="write")
    scopes = [{"entity": {"name": name}, "permissions": [permission]} for name, permission in scoped]
    user["auth"]["accessToken"]["fineGrained"] = {"global": [], "scoped": scopes}
    return user


def test_the_grants_of_a_fine_grained_token_count() -> None:
    may_not = "the token 'laptop' of alice is fine-grained, and not granted to write there"
    assert find_obstacle(grant(("us", "repo.write")), NAME) is None
    assert find_obstacle(grant((NAME, "repo.write")), NAME) is None
    assert find_obstacle(grant((NAME, "repo.write")), "us") is None
    assert find_obstacle(grant(("Us", "repo.write")), NAME.upper()) is None, "the Hub's names differ in more than case"
    assert find_obstacle(grant(("us/other", "repo.write")), NAME) == may_not
    assert find_obstacle(grant(("us", "repo.content.read")), NAME) == may_not
    assert find_obstacle(grant(("alice", "repo.write")), "us") == may_not
    assert find_obstacle(grant(), "us") == may_not


def test_only_what_is_sure_is_an_obstacle() -> None:
    user = describe_user("alice", "fineGrained", us="contributor")  # the Hub says nothing of what is granted
    assert find_obstacle(user, NAME) is None
    assert find_obstacle({"type": "app", "name": "alice"}, NAME) is None
    assert find_obstacle({"type": "user", "name": "alice", "orgs": None, "auth": None}, "alice") is None


def test_a_reader_of_an_organisation_may_not_write_there() -> None:
    user = describe_user("alice", "write", us="read")
    assert find_obstacle(user, NAME) == "alice may only read what us has"
    assert find_obstacle(user, "alice/tiny") is None


def test_a_hub_that_cannot_be_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it is not listened to
        use(f"http://127.0.0.1:{nobody.getsockname()[1]}", tmp_path, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for ask in (lambda: check_login("us"), lambda: find_repository(NAME)):
            with pytest.raises(PublishError, match="the Hub cannot be reached") as raised:
                ask()
            assert "Check the network" in raised.value.hint


def test_a_hub_that_is_broken_is_said(hub: Hub) -> None:
    hub.is_broken = True
    for ask in (lambda: check_login("us", api(hub)), lambda: find_repository(NAME, api(hub))):
        with pytest.raises(PublishError, match="the Hub answered 503"):
            ask()


def test_what_would_become_of_a_repository_is_described(hub: Hub) -> None:
    def describe(*, public: bool = False, token: str | bool = False) -> str:
        return describe_place(NAME, public=public, variant="dinov2_custom", api=api(hub, token))

    unseen = "us/tiny: is not there, or not to be seen without its owner's login; it would be made, private."
    assert describe() == unseen
    hub.repositories[NAME] = Repository(private=True, files=OURS)
    assert describe() == unseen
    assert describe(token=TOKEN) == "us/tiny: is private, holds dinov2_custom, which would be replaced."
    assert describe(token=TOKEN, public=True).endswith("would be replaced, and would become public.")
    hub.repositories[NAME] = Repository(private=False)
    assert describe(public=True) == "us/tiny: is public, is empty."
    with pytest.raises(PublishError, match="is public already"):
        describe()
    assert describe(token="hf_wrong") == "us/tiny: the Hub does not accept the token."


def test_errors_are_said_without_addresses() -> None:
    assert describe_error(OSError("\n  gone  \nhttps://somewhere?token=x")) == "OSError: gone"
    signed = OSError("Server error '503' for url 'https://store?signature=x' is back soon")
    assert describe_error(signed) == "OSError: Server error '503' for url '(address)' is back soon"
    assert describe_error(TimeoutError()) == "TimeoutError"
