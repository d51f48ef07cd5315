"""Fixtures that several files share: a user's directory; a server on loopback, and a fetch that never waits for it.

The header says what of many cases is tried.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from conversion.intake import fetching
from conversion.suite.memory import return_freed_memory
from conversion.suite.workflow_commands import ACTIONS, SUMMARY
from tests.support.golden import read_golden
from tests.support.http_server import Server, serve
from tests.support.sampling import SEED, Sampler, choose_seed

if TYPE_CHECKING:
    from conversion.report.records import Record
    from tests.support.fake_hub_state import Hub


@pytest.fixture(autouse=True)
def outside_github() -> Iterator[None]:
    """Let what is tried not write into the summary of the job that tries it."""
    with pytest.MonkeyPatch.context() as patch:  # its own: the shared one would be undone after other fixtures
        for name in (ACTIONS, SUMMARY):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let nothing divide a tiny model's few columns among threads, which on AMD's processors sum them otherwise."""
    before = torch.get_num_threads()
    if "subject" not in request.fixturenames:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory of a user's, with a tiny backbone and a linear head in it."""
    golden = read_golden("dinov2_tiny_1layer")
    torch.save(golden.backbone, tmp_path / "tiny.pth")
    torch.save(golden.linear_head, tmp_path / "head.pth")
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def give_back() -> Iterator[None]:
    """Return freed memory to the system after each file of tests: a worker would keep up to half a gigabyte."""
    yield
    return_freed_memory()


def pytest_configure() -> None:
    """Collect garbage seldom: each time the collector goes through all libraries, which took an eighth of the time."""
    gc.set_threshold(20_000, 20, 20)


def pytest_report_header(config: pytest.Config) -> str:
    if config.option.is_all:
        return "tests: every fault and every file"
    return f"tests: of faults and files a sample, drawn by {SEED}={choose_seed()}; all of them with --all"


@pytest.fixture(scope="session")
def sampler(pytestconfig: pytest.Config) -> Sampler:
    """What of many cases this run tries."""
    return Sampler(pytestconfig.option.is_all, choose_seed())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Hub"]:
    """A stand-in for the Hub; ``huggingface_hub`` speaks to it, with an empty cache, and nobody logged in."""
    from tests.support.fake_hub import start_hub, use  # here, since few need it

    with start_hub() as hub:
        use(hub.url, tmp_path / "huggingface", monkeypatch)
        yield hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited, one entry a wait."""
    waits: list[float] = []
    monkeypatch.setattr(fetching, "sleep", waits.append)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    return waits


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Verified artifacts by the name of the recorded model; to be copied, not changed."""
    from tests.support.verified import MODELS, make_artifact  # here, since it takes long to import

    folder = tmp_path_factory.mktemp("made")
    return {name: make_artifact(folder, name) for name in MODELS}


@pytest.fixture
def gathered(made: dict[str, Path]) -> "Record":
    """What their cards record."""
    from conversion.report.records import gather

    return gather(made.values())
