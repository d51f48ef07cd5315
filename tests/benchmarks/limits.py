"""What a machine does at best: how fast it hashes, multiplies and imports, and how much a verification multiplies."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from conversion.families.base import Family, Spec, load_family
from conversion.families.variants import VARIANTS
from conversion.suite.inputs import InputCase, list_inputs, select_few
from conversion.suite.work import FIRST, SECOND

LIBRARIES = "import torch, torchvision, transformers.modeling_utils, transformers.image_processing_utils"
"""What every command that verifies a model imports of others."""

TOKENS, WIDTH = 1374, 1024
"""Of the measured product: the MLP of ViT-L at its native size."""

ROUNDS = 5


@dataclass(frozen=True)
class Limits:
    """What this machine does at best.

    Attributes:
        products: floating-point operations a second of float32 products, on all cores.
        hashing: bytes a second of SHA-256, on one core.
        imports: seconds until the libraries are there.
    """

    products: float
    hashing: float
    imports: float


def measure_limits() -> Limits:
    """Measure them, within half a minute."""
    return Limits(_measure_products(), _measure_hashing(), _measure_imports())


def count_products(variant: str, cases: Sequence[InputCase] | None = None) -> float:
    """Floating-point operations of the matrix products of both models.

    The yardstick and the second attention implementation come on top, on inputs of few patches.

    Args:
        cases: what they run on; the inputs of a default verification unless given.
    """
    family, spec = _describe(variant)
    return 2.0 * _count(family, spec, cases or list_inputs(spec, family.images.choose_input_size(spec), None))


def count_all_products(variants: Iterable[str], *, is_thorough: bool) -> float:
    """Floating-point operations of the matrix products and convolutions in the proof of variants, at full size.

    With the first attention implementation both models run on all inputs. With the second the converted one runs, and
    the original in float64, which counts as two: on all inputs if it is thorough, else on those of few patches.

    Args:
        variants: of which a classifier on a backbone of its own is left out, since it is verified with that.
    """
    total = 0.0
    for name in variants:
        if VARIANTS[name].backbone != name:
            continue
        family, spec = _describe(name)
        cases = list_inputs(spec, family.images.choose_input_size(spec), None)
        of_second = cases if is_thorough else select_few(cases, spec.patch_size)
        total += FIRST * _count(family, spec, cases) + SECOND * _count(family, spec, of_second)
    return total


def _describe(variant: str) -> tuple[Family[Any], Spec]:
    family = load_family(VARIANTS[variant].family)
    return family, family.spec_of(VARIANTS[variant])


def _count(family: Family[Any], spec: Spec, cases: Iterable[InputCase]) -> int:
    """Floating-point operations of the original's products on some inputs."""
    # here, since it loads triton, which has a last word when Python ends
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        original = family.build_original(spec).eval()
        for case in cases:
            original(torch.empty(case.shape))
    return int(counter.get_total_flops())


def _measure_products() -> float:
    """Floating-point operations a second of a float32 product, on all cores."""
    tokens, weight = torch.ones(TOKENS, WIDTH), torch.ones(4 * WIDTH, WIDTH)
    with torch.inference_mode():
        seconds = _measure(lambda: [torch.nn.functional.linear(tokens, weight) for _ in range(20)])
    return 20 * 2.0 * TOKENS * WIDTH * 4 * WIDTH / seconds


def _measure_hashing() -> float:
    """Bytes a second of SHA-256 on one core."""
    content = bytes(2**28)
    return len(content) / _measure(lambda: hashlib.sha256(content))


def _measure_imports() -> float:
    """Seconds until the libraries are there, in a process of its own that collects no garbage meanwhile."""
    code = f"import gc; gc.disable(); {LIBRARIES}; import os; os._exit(0)"
    return _measure(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def _measure(run: Callable[[], object]) -> float:
    """Seconds: the median of some rounds, after one that is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
