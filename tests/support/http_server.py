"""A real web server on loopback that misbehaves as scripted; the scripts; and clients that can be killed."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

from conversion.intake.fetching import Checksum

Behaviour = Callable[["Handler"], None]

ETAG = '"1"'

CLIENT = """
import sys, torch.hub
from pathlib import Path
from conversion.intake.download import download_checkpoint
from conversion.families.variants import VARIANTS
torch.hub.set_dir(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
download_checkpoint(VARIANTS["dinov2_vits14"], Path(sys.argv[2]), sys.argv[3])
"""


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[str | None, str | None]:
        """What is asked for, and on which condition."""
        return self.headers.get("Range"), self.headers.get("If-Range")


@dataclass
class Server:
    """A running server.

    Attributes:
        url: without a slash at its end.
        script: path to one behaviour a request; the last one also answers all that follow.
        requests: in the order of their arrival.
        closing: set when the server ends.
    """

    url: str
    script: dict[str, Sequence[Behaviour]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_behaviour(self, request: Request) -> Behaviour:
        with self.lock:
            behaviours = self.script.get(request.path, [answer(404)])
            count = sum(request.path == earlier.path for earlier in self.requests)
            self.requests.append(request)
        return behaviours[min(count, len(behaviours) - 1)]

    @property
    def ranges(self) -> list[tuple[str | None, str | None]]:
        return [request.range for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_script: Server

    def do_GET(self) -> None:
        self.close_connection = True
        request = Request(self.path, dict(self.headers.items()))
        with suppress(ConnectionError):
            self.server_script.next_behaviour(request)(self)

    def start(self, status: int, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked is in ``requests``."""


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        server = Server(f"http://127.0.0.1:{listener.server_port}")
        listener.RequestHandlerClass = type("Scripted", (Handler,), {"server_script": server})
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            listener.shutdown()
            thread.join()


def answer(status: int, headers: Mapping[str, object] | None = None) -> Behaviour:
    """A status without a body."""
    return lambda handler: handler.start(status, {"Content-Length": 0, **(headers or {})})


def send(
    body: bytes,
    *,
    until: int | None = None,
    hang: bool = False,
    pause: float = 0.0,
    length: int | None = None,
    ranges: bool = True,
    conditions: bool = True,
    content_range: str = "",
    headers: Mapping[str, object] | None = None,
) -> Behaviour:
    """A file.

    Args:
        body: the whole of it; what lies before the range that is asked for is left out.
        until: the position in it where the connection is cut.
        hang: the connection stays open, but nothing more comes.
        pause: seconds before the answer.
        length: said to be so many bytes; none said if negative.
        ranges: whether the server heeds them.
        conditions: whether it heeds those of a range.
        content_range: said to be these bytes.
        headers: those that tell one version of the file from another (an ETag).
    """
    headers = {"ETag": ETAG} if headers is None else headers

    def respond(handler: Handler) -> None:
        handler.server_script.closing.wait(pause)
        start = 0
        if ranges and (not conditions or handler.headers.get("If-Range") in (None, *headers.values())):
            start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(body):
            handler.start(416, {"Content-Length": 0})
            return
        said = len(body) - start if length is None else length
        extra: dict[str, object] = {"Content-Length": said} if said >= 0 else {}
        if start:
            extra["Content-Range"] = content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.start(206 if start else 200, {**headers, **extra})
        handler.wfile.write(body[start:until])
        if hang:
            handler.server_script.closing.wait()

    return respond


def send_chunked(body: bytes, *, terminate: bool = True) -> Behaviour:
    """A file in pieces, without a length; its end is said, or the connection is cut there."""

    def respond(handler: Handler) -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if terminate:
            handler.wfile.write(b"0\r\n\r\n")

    return respond


def start_clients(count: int, url: str, cache: Path, checksums: Path) -> "list[subprocess.Popen[str]]":
    """Processes that download a model, released at once when all of them are ready."""
    command = [sys.executable, "-c", CLIENT, str(cache.parent), str(checksums), url]
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for client in clients:
        assert client.stdout
        assert client.stdout.readline() == "ready\n"
    for client in clients:
        assert client.stdin
        client.stdin.write("\n")
        client.stdin.flush()
    return clients


BODY, OTHER = Random(0).randbytes(10_000), Random(1).randbytes(10_000)
KNOWN = Checksum(len(BODY), sha256(BODY).hexdigest())
"""What is recorded of the first."""

WHOLE = (None, None)
DATED = {"ETag": 'W/"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
STOPS = range(500, len(BODY), 500)
REST = ("bytes=4000-", ETAG)
BREAK, BREAK_OF_OTHER = send(BODY, until=4000), send(OTHER, until=4000)

# what the server does, and what it is asked for
ARRIVALS = {
    "whole": ([send(BODY)], [WHOLE]),
    "in chunks that end": ([send_chunked(BODY)], [WHOLE]),
    "resumed": ([BREAK, send(BODY)], [WHOLE, REST]),
    "resumed, again and again": (
        [*(send(BODY, until=stop) for stop in STOPS), send(BODY)],
        [WHOLE, *((f"bytes={stop}-", ETAG) for stop in STOPS)],
    ),
    "resumed by date": (
        [send(BODY, until=4000, headers=DATED), send(BODY, headers=DATED)],
        [WHOLE, ("bytes=4000-", DATED["Last-Modified"])],
    ),
    "without ETag": ([send(OTHER, until=4000, headers={}), send(BODY, headers={})], [WHOLE, WHOLE]),
    "ranges ignored": ([BREAK_OF_OTHER, send(BODY, ranges=False)], [WHOLE, REST]),
    "changed": ([BREAK_OF_OTHER, send(BODY, headers={"ETag": '"2"'})], [WHOLE, REST]),
    "changed, condition ignored": (
        [BREAK_OF_OTHER, send(BODY, headers={"ETag": '"2"'}, conditions=False), send(BODY)],
        [WHOLE, REST, WHOLE],
    ),
    "shorter than what had arrived": ([send_chunked(OTHER * 2, terminate=False), send(BODY)], [WHOLE, WHOLE]),
    "rest in two parts": (
        [BREAK, send(BODY, until=5000, length=1000, content_range="bytes 4000-4999/10000"), send(BODY)],
        [WHOLE, REST, ("bytes=5000-", ETAG)],
    ),
    "rest from elsewhere": (
        [BREAK_OF_OTHER, send(BODY, content_range="bytes 3000-9999/10000"), send(BODY)],
        [WHOLE, REST, WHOLE],
    ),
    "rest of another length": (
        [BREAK_OF_OTHER, send(BODY, content_range="bytes 4000-9999/10001"), send(BODY)],
        [WHOLE, REST, WHOLE],
    ),
    "rest of unknown length": (
        [BREAK_OF_OTHER, send(BODY, content_range="bytes 4000-9999/*"), send(BODY)],
        [WHOLE, REST, WHOLE],
    ),
    "rest that is not there": ([BREAK_OF_OTHER, send(BODY[:3000]), send(BODY)], [WHOLE, REST, WHOLE]),
    "busy in between": ([BREAK, answer(503), send(BODY)], [WHOLE, REST, REST]),
}

# what the server does, how often it is asked, and what is said about it
REFUSALS = {
    "breaks at once": ([send(BODY, until=0)], 6, "IncompleteRead"),
    "breaks at the same place": ([BREAK], 6, "IncompleteRead"),
    "too short for its length": ([send(BODY, length=len(BODY) + 1)], 6, "IncompleteRead"),
    "in chunks without an end": ([send_chunked(BODY, terminate=False)], 6, "ended prematurely"),
    "no length": ([send(BODY, length=-1)], 1, "neither how long"),
    "encoded": ([send(BODY, headers={"Content-Encoding": "gzip"})], 1, "encoded as gzip"),
    "forbidden": ([answer(403)], 1, "HTTP 403"),
    "absent": ([answer(404)], 1, "HTTP 404"),
    "busy": ([answer(503)], 6, "HTTP 503"),
    "in circles": ([answer(302, {"Location": "/file.pth"})], 6, "redirected more than 5 times"),
    "rest without having been asked": ([answer(206)], 1, "HTTP 206"),
}
