"""Fixtures that several files share: a server on loopback, and a fetch that does not wait for it."""

from collections.abc import Iterator

import pytest

from conversion import fetching
from tests.server import Server, serve


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as server:
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited, one entry a wait."""
    waits: list[float] = []
    monkeypatch.setattr(fetching, "sleep", waits.append)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    return waits
