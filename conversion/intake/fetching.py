"""Fetch a file over HTTP: whole and checked, or not at all."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from ssl import SSLCertVerificationError
from time import sleep
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from tqdm import tqdm
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry
from urllib3.exceptions import HTTPError, LocationValueError

from conversion.errors import CheckpointError

TIMEOUT = 60.0  # seconds of silence after which a server counts as gone
ATTEMPTS = 6  # requests in a row that bring nothing new
BACKOFF = 1.0  # seconds before the first repetition, doubled before each further one: half a minute in all
LONGEST_WAIT = 60.0  # seconds that a server may ask for: nobody is left wondering for an hour
REDIRECTS = 5
CHUNK = 1 << 16  # bytes: what a broken connection loses at most
BUSY = {429, 500, 502, 503, 504}

OTHER_WAYS = "Nothing was left behind. Try again later, or from a mirror; or download it yourself and put it there."
CHANGED = "Nothing was left behind. If the official file has changed, remove its entry from the file of checksums."


@dataclass(frozen=True)
class Checksum:
    """What tells a file from every other: its size, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class AnswerError(HTTPError):
    """An answer of no use; it may be another after ``wait`` seconds, or never will be (None)."""

    def __init__(self, message: str, wait: float | None = None, hint: str = OTHER_WAYS) -> None:
        super().__init__(message)
        self.wait, self.hint = wait, hint


def fetch(url: str, target: Path, known: Checksum | None = None) -> Checksum:
    """Download a file: under its own name once it is complete, whatever happens in between.

    Where a connection breaks, the rest is asked for, if the server can show that it still has the same file. That no
    other process writes to the same target is for the caller to see to.

    Raises:
        CheckpointError: it cannot be had or written, or is not the one that is ``known``. Nothing is left behind.
    """
    partial = target.with_name(f"{target.name}.partial")
    with explain_io_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.unlink(missing_ok=True)  # of a killed process; nobody knows what is in it
            bar = tqdm(desc=target.name, unit="B", unit_scale=True, disable=None)
            with partial.open("xb") as file, bar:
                found = _download(url, target, _Part(file, bar), known)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return found


def follow_redirect(url: str, location: str) -> str:
    """Where a redirect leads, seen from ``url``.

    Raises:
        AnswerError: out of an encrypted connection, to where anybody could have changed the file.
    """
    target = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise AnswerError(f"redirected from https to {target}")
    return target


class _Part:
    """What has arrived of a file, and what the rest has to match."""

    def __init__(self, file: BinaryIO, bar: Any) -> None:
        self.file, self.bar, self.furthest = file, bar, 0
        self.restart()

    def restart(self, total: int | None = None, validator: str = "") -> None:
        self.file.seek(0)
        self.file.truncate()
        self.hash, self.size, self.total, self.validator = hashlib.sha256(), 0, total, validator
        self.bar.reset(total)

    def append(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.hash.update(chunk)
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)
        self.bar.update(len(chunk))


def _download(url: str, target: Path, part: _Part, known: Checksum | None) -> Checksum:
    """Ask for what is missing until nothing is, or nothing comes any more."""
    problems: list[str] = []
    furthest = 0
    while True:
        try:
            with _open_pool(url) as pool:
                return _request_rest(pool, url, part, known)
        except HTTPError as error:
            problem = str(next(iter(error.args), error))  # without the cause, which urllib3 says twice
            problems = [*([] if part.furthest > furthest else problems), problem]
            furthest = part.furthest
            if _is_final(error) or len(problems) >= ATTEMPTS:
                hint = getattr(error, "hint", OTHER_WAYS)
                raise CheckpointError(f"{url}: cannot be downloaded to {target}.", problems, hint) from error
            wait = max(BACKOFF * 2 ** (len(problems) - 1), getattr(error, "wait", 0.0))
        sleep(min(wait, LONGEST_WAIT))


def _is_final(error: HTTPError) -> bool:
    is_untrusted = any(isinstance(cause, SSLCertVerificationError) for cause in error.args)
    return is_untrusted or isinstance(error, LocationValueError) or getattr(error, "wait", 0.0) is None


def _request_rest(pool: PoolManager, url: str, part: _Part, known: Checksum | None) -> Checksum:
    """Bring a file to its end: from where it broke off if the server resumes, else from the beginning."""
    headers = {"Accept-Encoding": "identity"}
    is_resuming = bool(part.size and part.validator)
    if is_resuming:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    with _open(pool, url, headers) as response:
        if response.status == 200:
            part.restart(response.length_remaining, _read_validator(response))
            if part.total is None and not response.chunked and not known:
                raise AnswerError("says neither how long the file is nor where it ends")
        elif is_resuming and response.status in (206, 416):
            if (total := _read_total(response, part)) is None:
                part.restart()
                raise AnswerError(f"HTTP {response.status}: does not continue what had arrived", wait=0.0)
            part.total = total
        else:
            wait = (Retry().get_retry_after(response) or 0.0) if response.status in BUSY else None
            raise AnswerError(f"HTTP {response.status} {response.reason}", wait)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise AnswerError(f"encoded as {response.headers['Content-Encoding']}, which was not asked for")
        if known and part.total not in (None, known.bytes):
            raise AnswerError(f"bytes {part.total}, expected {known.bytes}", hint=CHANGED)
        for chunk in response.stream(CHUNK, decode_content=False):
            part.append(chunk)
    found = Checksum(part.size, part.hash.hexdigest())
    if part.total not in (None, found.bytes):
        raise AnswerError(f"{found.bytes} of {part.total} bytes", wait=0.0)
    if known and found != known:
        raise AnswerError("; ".join(list_mismatches(found, known)), hint=CHANGED)
    return found


def _open_pool(url: str) -> PoolManager:
    """Through the proxy that the environment names, as torch.hub goes."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return ProxyManager(proxy) if proxy else PoolManager()


def _open(pool: PoolManager, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
    settings: dict[str, Any] = {"timeout": TIMEOUT, "retries": False, "redirect": False, "preload_content": False}
    for _ in range(REDIRECTS + 1):
        response = pool.request("GET", url, headers=headers, **settings)
        location = response.get_redirect_location()
        if not location:
            return response
        response.close()
        url = follow_redirect(url, location)
    raise AnswerError(f"redirected more than {REDIRECTS} times, at last to {url}")


def _read_validator(response: BaseHTTPResponse) -> str:
    """What changes with the file: a weak ETag need not."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _read_total(response: BaseHTTPResponse, part: _Part) -> int | None:
    """Bytes of the whole file, if this answer continues the part; None if it does not."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size or _read_validator(response) not in ("", part.validator):
        return None
    return int(found[2]) if part.total in (None, int(found[2])) else None


def list_mismatches(found: Checksum, known: Checksum) -> list[str]:
    """What differs between two checksums."""
    expected = asdict(known)
    return [f"{name} {it}, expected {expected[name]}" for name, it in asdict(found).items() if it != expected[name]]


@contextmanager
def explain_io_errors(target: Path) -> Iterator[None]:
    """Say what to do where a download cannot be written."""
    try:
        yield
    except OSError as error:
        hint = "Nothing was left behind. Check free space and permissions, or choose another cache with TORCH_HOME."
        raise CheckpointError(f"{target}: cannot be written: {error}", hint=hint) from error
