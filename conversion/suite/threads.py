"""How torch's threads divide the work, so that what is exact is exact with any number of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from conversion.suite.memory import keep_freed_memory

MKL_MODE = "AUTO,STRICT"
"""Of ``MKL_CBWR``, which MKL reads at its first product: a product's sums do not depend on the number of threads.

Else, with AVX2 and three threads, a fused projection of 384 to 1,152 sums in another order than its thirds do (2e-6),
and without AVX-512 a matrix-vector product rounds by where the matrix lies. It takes 0 to 7 % more time.
"""

MIN_COLUMNS = 32
"""The fewest columns of a projection that a thread gets, since MKL heeds its mode on Intel's processors alone.

On AMD's (Zen 5), a fused projection of five tokens or more differs from its thirds by up to 1e-5 where a thread gets
fewer than 12 columns of a third. With 12 or more they agree: 2 to 64 threads and widths of 16 to 384 were tried.
"""


def prepare_torch(index: int, workers: int) -> None:
    """Divide a host's threads and GPUs among its workers of pytest-xdist; let no GPU round to TF32, nor MKL by threads.

    Args:
        index: of this worker among those of its host; it takes that GPU, modulo their number.
        workers: of its host.
    """
    keep_freed_memory()
    os.environ.setdefault("MKL_CBWR", MKL_MODE)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())


@contextmanager
def limit_threads(width: int) -> Iterator[None]:
    """Let torch use only as many threads as get :data:`MIN_COLUMNS` columns each of a projection to a model's width."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, width // MIN_COLUMNS)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
