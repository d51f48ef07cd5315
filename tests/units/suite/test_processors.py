"""Exact under every instruction set that this machine can be told to use, and with any number of threads."""

import pytest
import torch

import conversion
from conversion.artifact.load import load_converted
from conversion.families.base import load_family
from conversion.parity.original_run import OriginalRun
from conversion.parity.points import Inputs
from conversion.suite.threads import limit_threads
from tests.support.golden import ARCHITECTURES, read_golden, rounds_otherwise
from tests.support.processors import PROCESSORS, run_code
from tests.support.runs import verify_input

WIDTH, TOKENS = 384, (50, 257)
"""Of a ViT-S, at 98 and at 224 pixels: there AVX2 with three threads sums otherwise, unless MKL is told not to."""

EXACT = [name for name in ARCHITECTURES if not rounds_otherwise(name)]
"""The gate of DINOv2's has 88 channels, which are no multiple of a vector, and torch computes the rest of a row by
another formula: the original's rows are half of a fused tensor, those of transformers are not. The official one has
4,096.
"""


def verify_golden() -> list[str]:
    """Every golden model on its native size, and what came of it."""
    found = []
    for name in EXACT:
        golden = read_golden(name)
        family = load_family(golden.family.name)
        out = conversion.convert(golden.state_dict, **golden.overrides)
        size = (1, 3, out.spec.image_size, out.spec.image_size)
        image = Inputs(torch.randn(size, generator=torch.Generator().manual_seed(0)))
        original = family.load_original(out.spec, out.source, None)
        run = OriginalRun(original, family.list_stages(out.spec, masked=False), image, torch.float32)
        deviation = family.find_deviation(out.spec, size)
        with limit_threads(out.spec.embed_dim):
            result = verify_input("native", run, load_converted(out, attention=family.choose_attention()), deviation)
        found.append(f"{name}: {result.verdict}")
    return found


@torch.inference_mode()
def compare_projections() -> list[str]:
    """A fused projection beside its thirds."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * WIDTH, WIDTH, generator=generator)
    found = []
    for tokens in TOKENS:
        values = torch.randn(1, tokens, WIDTH, generator=generator)
        thirds = [torch.nn.functional.linear(values, third) for third in weight.chunk(3)]
        is_same = torch.equal(torch.nn.functional.linear(values, weight), torch.cat(thirds, dim=-1))
        found.append(f"{tokens} tokens: {'exact' if is_same else 'not exact'}")
    return found


VERIFY = """
from conversion.suite.threads import prepare_torch
from tests.units.suite.test_processors import compare_projections, verify_golden
prepare_torch(0, 1)
print(*compare_projections(), *verify_golden(), sep="\\n")
"""


@pytest.mark.parametrize(
    ("processor", "threads"), [("as it is", 7), ("AVX2", 1), ("AVX2", 3), ("default", 1), ("default", 2)]
)
def test_tiny_models_are_exact_under_each_instruction_set(processor: str, threads: int) -> None:
    assert processor in PROCESSORS
    found = run_code(VERIFY, processor, threads)
    assert len(found) == len(TOKENS) + len(EXACT)
    assert [line for line in found if not line.endswith(": exact")] == []
