"""Originals of models of other widths, or with a part switched off: the bundled, and the authors' in stand-ins."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conversion.errors import CheckpointError
from conversion.parity.metrics import is_bit_equal
from tests.support.clones import write_clone
from tests.support.switched import MODELS, PLAIN, draw, family_of

# the stand-ins have no other switches
BUILT = (
    "ratio 2", "ratio 3, gated", "ratio 6, gated", "no mask token", "any hidden width", "BEiT's CLS token pooled",
)  # fmt: skip


@pytest.mark.parametrize("name", BUILT)
def test_the_authors_model_of_such_a_kind_is_the_bundled_one(name: str, tmp_path: Path) -> None:
    spec = MODELS[name]
    family, tensors = family_of(spec), draw(spec)
    clone = write_clone(family.name, tmp_path / "clone")
    bundled, authors = family.load_original(spec, tensors), family.load_original(spec, tensors, clone)
    assert authors.state_dict().keys() == bundled.state_dict().keys() == tensors.keys()
    assert type(authors).__module__ != type(bundled).__module__
    pixel_values = torch.randn(2, spec.num_channels, spec.image_size, spec.image_size)
    with torch.inference_mode():
        expected, actual = bundled(pixel_values), authors(pixel_values)
    for key, value in expected.items():
        assert is_bit_equal(actual[key], value), key


def test_without_a_mask_token_no_patch_is_masked() -> None:
    spec = MODELS["no mask token"]
    original = family_of(spec).load_original(spec, draw(spec))
    masked = torch.zeros(1, 25, dtype=torch.bool)
    with pytest.raises(ValueError, match="no mask token: its patches cannot be masked"):
        original(torch.zeros(1, 3, 70, 70), masked)


def test_where_nothing_tells_how_it_resamples_it_takes_its_own_size_alone() -> None:
    spec = replace(PLAIN, interpolate_offset=None, interpolate_antialias=None)
    original = family_of(spec).load_original(spec, draw(spec))
    with torch.inference_mode():
        assert original(torch.zeros(1, 3, 70, 70))
        with pytest.raises(CheckpointError, match=r"its native image size only.*\nGive .*--interpolate-offset, "):
            original(torch.zeros(1, 3, 42, 42))
