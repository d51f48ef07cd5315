"""Who takes what: threads and GPUs by worker, large variants first, one backbone at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conversion.errors import DeviceError
from conversion.families.variants import VARIANTS
from conversion.suite.axes import check_axes
from conversion.suite.threads import prepare_torch
from conversion.suite.work import estimate_work
from tests.support.commands import HAS_WORKERS, SHRINKING, run

COUNTING = """
import os
from conversion.suite.subject import Subject

alive, make, close = [], Subject.__init__, Subject.close
def make_counted(self, *args):
    make(self, *args)
    alive.append(self.variant)
    print("ALIVE", os.environ.get("PYTEST_XDIST_WORKER", "main"), *alive, file=open("alive.txt", "a"))
def close_counted(self):
    close(self)
    alive.remove(self.variant)
Subject.__init__, Subject.close = make_counted, close_counted
"""


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("index", "workers", "gpus", "expected"), [(0, 1, 1, 0), (1, 4, 2, 1), (3, 4, 2, 1), (2, 8, 8, 2)]
)
def test_a_worker_takes_its_gpu(
    index: int, workers: int, gpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for the driver: what a machine without a GPU can show."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    prepare_torch(index, workers)
    assert taken == [expected]
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("threads")
def test_workers_divide_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for workers, expected in ((2, 4), (3, 2), (16, 1)):
        prepare_torch(0, workers)
        assert torch.get_num_threads() == expected


def test_another_attention_is_taken_where_transformers_has_it() -> None:
    assert check_axes(["cpu"], None, ["flex_attention"]) == (["cpu"], ["float32"], ["flex_attention"])
    with pytest.raises(DeviceError) as raised:
        check_axes(["cpu"], ["int8"], ["moon"])
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["--dtype int8", "--attention moon"]


def test_what_takes_longest_comes_first() -> None:
    order = sorted(VARIANTS, key=lambda name: estimate_work(VARIANTS[name], is_thorough=True), reverse=True)
    order_of_others = [name for name in order if VARIANTS[name].spec.get("max_depth") is None]
    assert order_of_others[0] == "beit_large_patch16_640_pt22k_ft22ktoade20k"
    assert all("vit7b16" in name for name in order_of_others[1:3])
    assert all("large" in name and "ade20k" in name for name in order_of_others[3:6])
    assert all("vitg14" in name for name in order_of_others[7:11])
    assert all("vitg14" in name for name in [name for name in order if "dpt" in name][:2])
    assert all("vits16" in name for name in order[-2:])
    assert estimate_work(None) < estimate_work(VARIANTS[order[-1]])


@HAS_WORKERS
def test_a_worker_has_one_backbone_at_a_time_and_the_larger_before(tmp_path: Path) -> None:
    """With its classifier, which has the same weights."""
    code, output = run(
        tmp_path,
        "-n",
        "2",
        "-k",
        "(vits14_ and not dpt) or base-cpu",
        "--attention",
        "sdpa",
        plugin=SHRINKING + COUNTING,
    )
    assert code == 0, output
    lines = (tmp_path / "alive.txt").read_text().splitlines()
    alive = [line.split()[2:] for line in lines]
    assert all(len({VARIANTS[name].backbone for name in names}) == 1 for names in alive), lines
    assert max(map(len, alive)) == 2
    assert len(lines) == 4
    assert any(line.endswith("data2vec_vision_base") for line in lines[:2])  # the first of either worker
