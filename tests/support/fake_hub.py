"""A server on this host that speaks the Hub's HTTP API, as far as publishing a model and fetching one need it."""

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.support.fake_hub_state import Answer, CutError, Hub, RefusedError, Repository


def use(hub_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``huggingface_hub`` speak to a server, in this process and those that it starts.

    Args:
        home: where it keeps its cache and its token; with an empty one, nobody is logged in.
    """
    template = f"{hub_url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    places = {"HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token")}
    values: dict[str, object] = {
        **places,
        "ENDPOINT": hub_url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_DISABLE_XET": True,  # what it speaks instead is another protocol
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    # huggingface_hub 0 has a copy of it
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    for name, text in {
        **places,
        "HF_ENDPOINT": hub_url,
        "HF_HUB_DISABLE_XET": "1",
        "no_proxy": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@contextmanager
def start_hub() -> Iterator[Hub]:
    """A running server without any repository."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.is_broken:
                raise RefusedError(503, "Back soon.")
            for method, pattern, function in ROUTES:
                if self.command in method.split() and (found := re.fullmatch(pattern, path)):
                    self.send(200, function(self, *found.groups()))
                    return
            raise RefusedError(404, f"no such address: {self.command} {path}")
        except RefusedError as error:
            self.send(error.status, error.content, error)
        except CutError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, content: object, error: RefusedError | None = None) -> None:
        if not isinstance(content, Answer):
            content = Answer(json.dumps(content).encode(), {"Content-Type": "application/json"}, status)
        self.send_response(content.status)
        self.send_header("Content-Length", str(len(content.body)))
        for name, text in content.headers.items():
            self.send_header(name, text)
        if error is not None:
            self.send_header("X-Error-Message", str(error).partition("\n")[0])
            self.send_header("X-Error-Code", error.code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content.body)

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def find_user(self) -> dict[str, Any]:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.hub.users.get(token, {})

    def may_see(self, name: str) -> bool:
        user = self.find_user()
        return name.partition("/")[0] in [user.get("name"), *(org["name"] for org in user.get("orgs", ()))]

    def check_writer(self, name: str) -> None:
        user = self.find_user()
        if not user:
            raise RefusedError(401, "Invalid username or password.")
        if user["auth"]["accessToken"]["role"] == "read":
            token = self.headers["Authorization"]
            raise RefusedError(403, f"This token has not the right to write.\nIt is {token}.")
        if not self.may_see(name):
            raise RefusedError(403, f"You have not the right to write to {name}.")

    def find(self, name: str) -> Repository:
        found, user = self.hub.repositories.get(name), self.find_user()
        if found is None or (found.private and not self.may_see(name)):
            # of what it does not show, the Hub does not say whether it is there
            raise RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")
        return found

    # what follows answers one address each

    def validate(self) -> dict[str, Any]:
        self.read()
        return {"errors": [], "warnings": []}

    def create(self) -> dict[str, Any]:
        wanted = json.loads(self.read())
        name = f"{wanted['organization']}/{wanted['name']}"
        self.check_writer(name)
        if name in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo", url=f"{self.hub.url}/{name}")
        is_private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.repositories[name] = Repository(bool(is_private))
        return {"url": f"{self.hub.url}/{name}", "name": name, "id": "1"}

    def whoami(self) -> dict[str, Any]:
        if not (user := self.find_user()):
            raise RefusedError(401, "Invalid username or password.")
        return user

    def describe(self, name: str, revision: str | None) -> dict[str, Any]:
        found = self.find(name)
        sha, files = found.find(revision or "main")
        siblings = [{"rfilename": path} for path in files]
        return {"id": name, "sha": sha, "private": found.private, "siblings": siblings, "tags": []}

    def list_tree(self, name: str, revision: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": path, "size": len(content), "oid": _oid(content, is_large=False)}
            | ({"lfs": {"oid": _oid(content, is_large=True), "size": len(content), "pointerSize": 134}}
               if _is_large(path) else {})
            for path, content in self.find(name).find(revision)[1].items()
        ]  # fmt: skip

    def resolve(self, name: str, revision: str, path: str) -> Answer:
        found = self.find(name)
        sha, files = found.find(revision)
        if found.gated and not self.may_see(name):
            raise RefusedError(403 if self.find_user() else 401, f"Access to model {name} is restricted.", "GatedRepo")
        if path not in files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        content, is_large = files[path], _is_large(path)
        headers = {"X-Repo-Commit": sha}
        if not is_large:
            return Answer(content, {**headers, "ETag": f'"{_oid(content, is_large)}"'})
        oid = _oid(content, is_large)
        self.hub.blobs[oid] = content
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # the client does not follow to another host
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content)), "ETag": '"of the redirection"'}
        return Answer(b"", {**headers, "Location": f"{elsewhere}/blob/{oid}"}, 302)

    def fetch(self, oid: str) -> Answer:
        return Answer(self.hub.blobs[oid], {"ETag": f'"{oid}"'})

    def preupload(self, name: str) -> dict[str, Any]:
        self.check_writer(name)
        found = self.find(name).files
        files = []
        for file in json.loads(self.read())["files"]:
            path, is_large = file["path"], _is_large(file["path"])
            oid = _oid(found[path], is_large) if path in found else None
            mode = "lfs" if is_large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def batch(self, name: str) -> dict[str, Any]:
        self.check_writer(name)
        objects = []
        for wanted in json.loads(self.read())["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}
            objects.append(wanted if wanted["oid"] in self.hub.blobs else wanted | {"actions": actions})
        return {"transfer": "basic", "objects": objects}

    def upload(self, oid: str) -> dict[str, Any]:
        if self.hub.cuts:
            self.hub.cuts -= 1
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            raise CutError
        content = self.read()
        if sha256(content).hexdigest() != oid:
            raise RefusedError(400, "Another file than was announced.")
        self.hub.blobs[oid] = content
        self.hub.uploads.append(oid)
        return {}

    def commit(self, name: str) -> dict[str, Any]:
        self.check_writer(name)
        self.hub.before_commit()
        found, lines = self.find(name), [json.loads(line) for line in self.read().splitlines()]
        (header,) = (line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", found.sha) != found.sha:
            raise RefusedError(412, "A commit has happened since.")
        files = dict(found.files)
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        found.files = files
        found.messages.append(header["summary"])
        return {"commitUrl": f"{self.hub.url}/{name}/commit/{found.sha}", "commitOid": found.sha}

    def settings(self, name: str) -> dict[str, Any]:
        self.check_writer(name)
        wanted = json.loads(self.read())
        self.find(name).private = wanted.get("private", wanted.get("visibility") == "private")
        return {}


ROUTES: list[tuple[str, str, Callable[..., object]]] = [
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("GET", "/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", _Handler.describe),
    ("GET", "/api/models/([^/]+/[^/]+)/tree/([^/]+)", _Handler.list_tree),
    ("GET HEAD", "/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET HEAD", "/blob/([0-9a-f]+)", _Handler.fetch),
    ("POST", "/api/models/([^/]+/[^/]+)/preupload/main", _Handler.preupload),
    ("POST", "/([^/]+/[^/]+)[.]git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/upload/([0-9a-f]+)", _Handler.upload),
    ("POST", "/api/models/([^/]+/[^/]+)/commit/main", _Handler.commit),
    ("PUT", "/api/models/([^/]+/[^/]+)/settings", _Handler.settings),
]


def _oid(content: bytes, is_large: bool) -> str:
    """By which the client sees that a file has not changed."""
    return (sha256(content) if is_large else sha1(b"blob %d\0" % len(content) + content)).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))
