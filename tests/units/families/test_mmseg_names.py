"""mmsegmentation's own names of BEiT with UPerNet: another spelling of unilm's, and nothing else."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import KeyMapError
from conversion.families.settings import AUTHORS
from conversion.intake.checkpoint import read_checkpoint
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict
from conversion.suite.inputs import InputCase
from tests.support.commands import run
from tests.support.golden import list_options, read_golden
from tests.support.runs import run_original, verify_input

GOLDEN = "data2vec_vision_tiny_ade20k"

# as mmseg.models.backbones.BEiT and mmseg.models.necks.Feature2Pyramid have them
THEIRS = {
    "backbone.blocks.": "backbone.layers.", ".norm1.": ".ln1.", ".norm2.": ".ln2.", ".mlp.fc1.": ".ffn.layers.0.0.",
    ".mlp.fc2.": ".ffn.layers.1.", "patch_embed.proj.": "patch_embed.projection.",
    "backbone.fpn1.": "neck.upsample_4x.", "backbone.fpn2.": "neck.upsample_2x.",
}  # fmt: skip


def rename(key: str) -> str:
    for ours, theirs in THEIRS.items():
        key = key.replace(ours, theirs)
    return key


def write_theirs(path: Path) -> dict[str, Tensor]:
    golden = read_golden(GOLDEN)
    theirs = {rename(key): tensor for key, tensor in golden.recorded.items()}
    assert not {key for key in theirs if key.startswith(("backbone.blocks.", "backbone.fpn"))}
    torch.save({"meta": {"epoch": 1}, "state_dict": theirs, "optimizer": {}}, path)
    return theirs


def test_their_names_give_what_unilms_give(tmp_path: Path) -> None:
    write_theirs(tmp_path / "mmseg.pth")
    golden = read_golden(GOLDEN)
    checkpoint = read_checkpoint(tmp_path / "mmseg.pth")
    steps = {step.name: step.did for step in checkpoint.steps}
    assert "mmsegmentation's own names" in steps["translate"]
    assert "restored, they stay theirs" in steps["translate"]
    assert (checkpoint.state_dict.writer, checkpoint.untranslated) == (AUTHORS, None)
    with warnings.catch_warnings(action="ignore"):
        out = conversion.convert(checkpoint.state_dict, **golden.overrides)
        wanted = conversion.convert(golden.recorded, **golden.overrides)
    assert out.spec == wanted.spec
    assert list(out.state_dict) == list(wanted.state_dict)
    assert all(is_bit_equal(tensor, wanted.state_dict[key]) for key, tensor in out.state_dict.items())
    restored = conversion.restore(out.state_dict, out.config)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in golden.recorded.items() if key in restored)


def test_what_they_name_is_the_original(tmp_path: Path) -> None:
    from conversion.artifact.load import load_converted

    write_theirs(tmp_path / "mmseg.pth")
    golden = read_golden(GOLDEN)
    out = conversion.convert(conversion.load_checkpoint(tmp_path / "mmseg.pth"), **golden.overrides)
    original = golden.family.load_original(golden.spec, golden.recorded)
    size = golden.spec.image_size
    forward = run_original(golden.family, golden.spec, original, InputCase("native", size, size))
    result = verify_input("native", forward, load_converted(out, attention="eager"))
    assert {point.verdict for point in result.points} <= {Verdict.EXACT, Verdict.CLOSE}


def test_a_name_that_neither_has_is_not_passed_over(tmp_path: Path) -> None:
    theirs = write_theirs(tmp_path / "mmseg.pth") | {"backbone.ln1.weight": torch.ones(1)}
    torch.save({"state_dict": theirs}, tmp_path / "mmseg.pth")
    read = conversion.load_checkpoint(tmp_path / "mmseg.pth")
    with pytest.raises(KeyMapError, match=r"unexpected: backbone\.ln1\.weight"):
        conversion.convert(read, **read_golden(GOLDEN).overrides)


def test_the_suite_takes_them(tmp_path: Path) -> None:
    write_theirs(tmp_path / "mmseg.pth")
    parity = str(Path(__file__).parents[2] / "parity")
    code, output = run(tmp_path, "--checkpoint=mmseg.pth", parity, "--attention=eager", *list_options(GOLDEN))
    assert code == 0, output
