"""A server on this host that speaks the Hub's HTTP API, as far as publishing a model needs it."""

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, READ_ONLY = "hf_secret-of-a-writer", "hf_secret-of-a-reader"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    messages: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        """Of the latest commit."""
        return sha1(json.dumps(self.messages).encode()).hexdigest()


@dataclass
class Hub:
    """What is on the server, and what is to go wrong.

    Attributes:
        blobs: content of large files that have arrived, by their SHA-256.
        cuts: how many uploads are to be cut in the middle, from now on.
        uploads: of large files that arrived whole.
        before_commit: called before a commit is looked at.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    cuts: int = 0
    uploads: list[str] = field(default_factory=list)
    before_commit: Callable[[], object] = lambda: None

    def files(self, name: str) -> dict[str, bytes]:
        """What users have put into a repository."""
        return {path: content for path, content in self.repositories[name].files.items() if path != ".gitattributes"}


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: str = "", **content: str) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, {"error": message, **content}


class CutError(Exception):
    """The connection is gone in the middle of a request."""


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

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        try:
            for method, pattern, function in ROUTES:
                if self.command == method and (found := re.fullmatch(pattern, path)):
                    self.send(200, function(self, *found.groups()))
                    return
            raise RefusedError(404, f"no such address: {self.command} {path}")
        except RefusedError as error:
            self.send(error.status, error.content, error)
        except CutError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, content: object, error: RefusedError | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error is not None:
            self.send_header("X-Error-Message", str(error).partition("\n")[0])
            self.send_header("X-Error-Code", error.code)
        self.end_headers()
        self.wfile.write(body)

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def demand_writer(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READ_ONLY):
            raise RefusedError(401, f"Invalid username or password.\nYou came with {token}.")
        if token == READ_ONLY:
            raise RefusedError(403, f"This token has not the right to write.\nIt is {token}.")

    def find(self, name: str) -> Repository:
        if name not in self.hub.repositories:
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return self.hub.repositories[name]

    # what follows answers one address each

    def validate(self) -> dict[str, Any]:
        self.read()
        return {"errors": [], "warnings": []}

    def create(self) -> dict[str, Any]:
        wanted = json.loads(self.read())
        self.demand_writer()
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            raise RefusedError(409, "You already created this model repo", url=f"{self.hub.url}/{name}")
        is_private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.repositories[name] = Repository(bool(is_private))
        return {"url": f"{self.hub.url}/{name}", "name": name, "id": "1"}

    def describe(self, name: str) -> dict[str, Any]:
        found = self.find(name)
        siblings = [{"rfilename": path} for path in found.files]
        return {"id": name, "sha": found.sha, "private": found.private, "siblings": siblings, "tags": []}

    def preupload(self, name: str) -> dict[str, Any]:
        self.demand_writer()
        found = self.find(name).files
        files = []
        for file in json.loads(self.read())["files"]:
            path, is_large = file["path"], file["path"].endswith(".safetensors")
            oid = _oid(found[path], is_large) if path in found else None
            mode = "lfs" if is_large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def batch(self, _name: str) -> dict[str, Any]:
        self.demand_writer()
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
        self.demand_writer()
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
        self.demand_writer()
        wanted = json.loads(self.read())
        self.find(name).private = wanted.get("private", wanted.get("visibility") == "private")
        return {}


ROUTES: list[tuple[str, str, Callable[..., object]]] = [
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", "/api/models/([^/]+/[^/]+)(?:/revision/main)?", _Handler.describe),
    ("POST", "/api/models/([^/]+/[^/]+)/preupload/main", _Handler.preupload),
    ("POST", "/([^/]+/[^/]+)[.]git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/upload/([0-9a-f]+)", _Handler.upload),
    ("POST", "/api/models/([^/]+/[^/]+)/commit/main", _Handler.commit),
    ("PUT", "/api/models/([^/]+/[^/]+)/settings", _Handler.settings),
]


def _oid(content: bytes, is_large: bool) -> str:
    """By which the client sees that a file has not changed."""
    return (sha256(content) if is_large else sha1(b"blob %d\0" % len(content) + content)).hexdigest()
