"""What is on the stand-in for the Hub: repositories, users, and what is to go wrong."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

TOKEN, READ_ONLY, STRANGER = "hf_secret-of-a-writer", "hf_secret-of-a-reader", "hf_secret-of-a-stranger"


def describe_user(name: str, role: str, token: str = "laptop", **orgs: str) -> dict[str, Any]:
    """What the Hub says of who is logged in.

    Args:
        role: of the token: write, read or fineGrained.
        token: its name.
        orgs: organisation to the user's role in it.
    """
    return {
        "type": "user",
        "name": name,
        "orgs": [{"type": "org", "name": org, "roleInOrg": in_org} for org, in_org in orgs.items()],
        "auth": {"type": "access_token", "accessToken": {"displayName": token, "role": role}},
    }


@dataclass
class Repository:
    """A repository.

    Attributes:
        gated: whoever wants its files has to ask its owner.
        tags: name to the files of then; each is a commit, too.
    """

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    messages: list[str] = field(default_factory=list)
    gated: bool = False
    tags: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        """Of the latest commit."""
        return sha1(json.dumps(self.messages).encode()).hexdigest()

    def find(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit that a revision is, and its files.

        Raises:
            RefusedError: there is none.
        """
        commits = {self.sha: self.files} | {name_commit(tag): files for tag, files in self.tags.items()}
        names = {"main": self.sha} | {tag: name_commit(tag) for tag in self.tags}
        commit = names.get(revision, revision)
        if commit not in commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, commits[commit]


def name_commit(tag: str) -> str:
    """The commit that a tag stands for."""
    return sha1(tag.encode()).hexdigest()


@dataclass
class Hub:
    """What is on the server, and what is to go wrong.

    Attributes:
        blobs: content of large files that have arrived, by their SHA-256.
        cuts: how many uploads are to be cut in the middle, from now on.
        uploads: of large files that arrived whole.
        before_commit: called before a commit is looked at.
        users: who is logged in, by token.
        requests: method and path of all that were asked.
        is_broken: every request is answered with an error of the server's.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    cuts: int = 0
    uploads: list[str] = field(default_factory=list)
    before_commit: Callable[[], object] = lambda: None
    users: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            TOKEN: describe_user("alice", "write", us="write"),
            READ_ONLY: describe_user("alice", "read", us="write"),
            STRANGER: describe_user("bob", "write", them="admin"),
        }
    )
    requests: list[str] = field(default_factory=list)
    is_broken: bool = False

    def files(self, name: str) -> dict[str, bytes]:
        """What users have put into a repository."""
        return {path: content for path, content in self.repositories[name].files.items() if path != ".gitattributes"}

    def list_fetched(self) -> list[str]:
        """The names of files that somebody has fetched, or wanted to; where large ones lie is asked for alone."""
        asked = (re.fullmatch(r"\w+ /[^/]+/[^/]+/resolve/[^/]+/(.+)", each) for each in self.requests)
        return sorted({found[1] for found in asked if found})


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: str = "", **content: str) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, {"error": message, **content}


class CutError(Exception):
    """The connection is gone in the middle of a request."""


@dataclass(frozen=True)
class Answer:
    """An answer that is not JSON, or not all of it."""

    body: bytes
    headers: dict[str, str]
    status: int = 200
