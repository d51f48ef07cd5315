"""What a feature backbone returns, by the authors' own code and by timm's; the clone is a stand-in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conversion.cli.app import main
from conversion.families.base import load_family
from conversion.families.dinov2.config import Dinov2Spec
from conversion.families.vit import Spec
from conversion.parity.metrics import is_bit_equal
from tests.support.clones import write_clone
from tests.support.golden import list_options, read_golden
from tests.support.timm_models import SMALL, convert, write

FORMS = pytest.mark.parametrize(
    ("apply_layernorm", "reshape_hidden_states"), [(True, True), (True, False), (False, True), (False, False)]
)


def set_returned(spec: Spec, apply_layernorm: bool, reshape_hidden_states: bool) -> Dinov2Spec:
    """The same model, returning the outputs of its first two blocks."""
    assert isinstance(spec, Dinov2Spec)
    return replace(
        spec, out_indices=(0, 1), apply_layernorm=apply_layernorm, reshape_hidden_states=reshape_hidden_states
    )


@FORMS
@pytest.mark.parametrize("name", ["dinov2_tiny", "dinov2_tiny_reg", "dinov2_tiny_swiglu"])
def test_the_authors_code_returns_what_the_bundled_does(
    name: str, apply_layernorm: bool, reshape_hidden_states: bool, tmp_path: Path
) -> None:
    golden = read_golden(name)
    spec = set_returned(golden.spec, apply_layernorm, reshape_hidden_states)
    load, clone = golden.family.load_original, write_clone("dinov2", tmp_path)
    bundled, authors = (load(spec, golden.state_dict, place) for place in (None, clone))
    for case in golden.cases:
        pixels = case.inputs.pixel_values
        with torch.inference_mode():
            expected, actual = bundled(pixels)["feature_maps"], authors(pixels)["feature_maps"]
        assert len(expected) == 2
        assert all(is_bit_equal(*pair) for pair in zip(actual, expected, strict=True)), case.name


@FORMS
@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_timms_code_returns_what_the_bundled_does(
    name: str, apply_layernorm: bool, reshape_hidden_states: bool, tmp_path: Path
) -> None:
    written = write(tmp_path, name, {"img_size": 70, **SMALL})
    out = convert(written, SMALL["num_heads"])
    family, spec = load_family(out.family), set_returned(out.spec, apply_layernorm, reshape_hidden_states)
    timms = family.load_timm(spec, written.checkpoint.untranslated or written.checkpoint.state_dict).double()
    bundled = family.load_original(spec, out.source).double()
    pixels = torch.randn(2, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        expected, actual = bundled(pixels)["feature_maps"], timms(pixels)["feature_maps"]
    assert [each.shape for each in actual] == [each.shape for each in expected]
    assert all((each - other).abs().max() <= 1e-12 for each, other in zip(actual, expected, strict=True))


def find_originals(folder: Path) -> set[str]:
    """Whose code a card says that a model was held against, feature for feature."""
    cells = json.loads((folder / "parity.json").read_text())["activations"]
    assert any(point.startswith("returned.feature") for point in cells[1]["inputs"][0]["points"])
    return {cell["original"] for cell in cells}


def test_features_are_held_against_a_clone_of_the_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(dict(read_golden("dinov2_tiny").state_dict), tmp_path / "tiny.pth")
    clone, folder = write_clone("dinov2", tmp_path / "clone"), tmp_path / "out"
    options = ["--as", "backbone", "--original", str(clone), *list_options("dinov2_tiny"), "-o", str(folder)]
    assert main(["convert", str(tmp_path / "tiny.pth"), *options]) == 0, capsys.readouterr()
    assert "bundled" not in find_originals(folder)


def test_features_of_what_timm_wrote_are_held_against_timm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "timm", "vit_small_patch14_dinov2", {"img_size": 70, **SMALL})
    folder = tmp_path / "out"
    assert main(["convert", str(tmp_path / "timm"), "--as", "backbone", "-o", str(folder)]) == 0, capsys.readouterr()
    assert {original.split()[0] for original in find_originals(folder)} == {"timm"}
