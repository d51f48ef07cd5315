"""Which code the suite takes for the original: timm's for what timm wrote, the bundled one for the rest."""

import warnings
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conversion.families.timm_code import describe_timm
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.verdict import Verdict
from conversion.suite.cells import verify_cell
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.support.golden import read_golden
from tests.support.timm_models import choose_settings, narrow, write

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("original", "reference"), [("auto", "timm"), ("timm", "timm"), ("bundled", "bundled")])
def test_timms_code_is_the_reference_of_what_timm_wrote(original: str, reference: str, tmp_path: Path) -> None:
    architecture, arguments = narrow("h-optimus-0")
    written = write(tmp_path, architecture, arguments)
    request = Request(checkpoint=tmp_path, original=original, overrides=choose_settings(2))
    subject = Subject("dinov2_custom", request)
    with closing(subject), warnings.catch_warnings(action="ignore"):
        assert subject.reference == reference
        assert not any(case.masked for case in subject.inputs)  # it has no mask token
        assert is_timms(subject.original("cpu")) == (reference == "timm")
        expected = f"timm {version('timm')}, {architecture}" if reference == "timm" else "bundled"
        assert subject.describe_reference() == expected
        verdict = verify_cell(subject, ("cpu", "float32", "sdpa"))
    assert verdict.original == expected
    assert {result.verdict for result in verdict.inputs} <= {Verdict.EXACT, Verdict.CLOSE}
    assert describe_timm(written.description).endswith(", vit_giant_patch14_reg4_dinov2")


CLASSIFIER = {"img_size": 70, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 10}
IMAGES = {"image_mean": HALF, "image_std": HALF, "crop_pct": 1.0, "interpolation": "bicubic"}
MADE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "registers with positions": (*narrow("virchow2"), {"hidden_act": "silu"}),
    "classifier": ("vit_small_patch14_dinov2", CLASSIFIER, {"global_pool": "token"}),
    "features of BEiT": ("beit_base_patch16_224", {**CLASSIFIER, "img_size": 64, "num_classes": 0}, {}),
}


@pytest.mark.parametrize("is_described", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_every_input_is_verified_with_config_json_and_without(name: str, is_described: bool, tmp_path: Path) -> None:
    """BEiT alone has the authors' names: without timm's ``config.json`` it is compared with the bundled original."""
    architecture, arguments, told = MADE[name]
    write(tmp_path, architecture, arguments)
    overrides = {} if is_described else {**IMAGES, **told, "num_attention_heads": 2}
    if not is_described:
        (tmp_path / "config.json").unlink()
        overrides = {key: value for key, value in overrides.items() if "BEiT" not in name or key in IMAGES}
    subject = Subject("custom", Request(checkpoint=tmp_path, overrides=overrides))
    with closing(subject), warnings.catch_warnings(action="ignore"):
        assert subject.reference == ("bundled" if "BEiT" in name and not is_described else "timm")
        for attention in ("eager", "sdpa"):
            verdict = verify_cell(subject, ("cpu", "float32", attention))
            assert {result.verdict for result in verdict.inputs} <= {Verdict.EXACT, Verdict.CLOSE}


def test_the_bundled_original_is_that_of_all_others(tmp_path: Path) -> None:
    torch.save(read_golden("dinov2_tiny").backbone, tmp_path / "tiny.pth")
    subject = Subject("dinov2_custom", Request(checkpoint=tmp_path / "tiny.pth", overrides={"num_attention_heads": 2}))
    with closing(subject):
        assert subject.reference == "bundled"
        assert subject.checkpoints["checkpoint"].untranslated is None
    assert Subject("dinov2_vits14", Request()).reference == "bundled"


def test_the_untranslated_is_cast_as_the_rest_is(tmp_path: Path) -> None:
    write(tmp_path, *narrow("uni"))
    with warnings.catch_warnings(action="ignore"):
        checkpoint = read_checkpoint(tmp_path, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in (checkpoint.untranslated or {}).values()} == {torch.bfloat16}


def is_timms(model: nn.Module) -> bool:
    return any(cls.__module__.startswith("timm.") for cls in type(model).__mro__)
