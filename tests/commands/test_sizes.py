"""Whole numbers on the command line: refused before anything is built, once, with the value and the way out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import conversion
from conversion.cli.app import main
from conversion.errors import CheckpointError, ConversionError
from conversion.families.base import load_family
from conversion.families.image_sizes import MAX_TOKENS, find_size_problem
from conversion.families.variants import VARIANTS
from conversion.suite.axes import check_image_size, check_selected
from conversion.suite.memory import measure_memory
from tests.support.commands import TINY, left_over, run
from tests.support.golden import read_golden

NOTHING_IS_BUILT = """
import torch.nn
def build(self, *args, **kwargs):
    print("BUILT", file=open("built.txt", "w"))
    raise AssertionError
torch.nn.Module.__init__ = build
"""

ABOVE = "is no whole number from 1 up"
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a size below zero": (("--image-size", "-1"), f"argument --image-size: '-1' {ABOVE}"),
    "no size": (("--image-size=0",), f"argument --image-size: '0' {ABOVE}"),
    "a size in words": (("--image-size", "large"), f"argument --image-size: 'large' {ABOVE}"),
    "a size that fits no variant": (("--image-size", "14000"), "1,000,000 patches, of which"),
    "a size that does not fit a checkpoint": ((*TINY, "--image-size", "14000"), "give at most 3584"),
    "a size between patches": ((*TINY, "--image-size", "100"), "--image-size 100: not a multiple of the patch size 14"),
    "no heads": ((*TINY[:2], "--num-attention-heads", "0"), f"argument --num-attention-heads: '0' {ABOVE}"),
    "heads below zero": ((*TINY[:2], "--num-attention-heads=-1"), f"argument --num-attention-heads: '-1' {ABOVE}"),
    "a seed below zero": (("--seed", "-1"), "argument --seed: '-1' is no whole number from 0 up"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_once_before_anything_is_built(case: str, here: Path) -> None:
    options, says = REFUSED[case]
    code, output = run(here, *options, "--save-artifacts", "--attention=sdpa", plugin=NOTHING_IS_BUILT)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert output.count(says) == 1, output
    assert "Traceback" not in output
    assert not (here / "built.txt").exists()
    assert left_over(here) == []


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "workers"])
def test_what_was_selected_decides(workers: tuple[str, ...], here: Path) -> None:
    """Others would have been let pass; only this one has no room, on a machine of a kilobyte."""
    plugin = "import conversion.suite.plugin as plugin\nplugin.measure_memory = lambda: 1024\n"
    code, output = run(here, "--image-size=42", "-k", "dinov2_vits14-", *workers, plugin=plugin)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert output.count("dinov2_vits14, images of 42 x 42 pixels: eager attention takes") == 1
    assert "INTERNALERROR" not in output


def spec_of(name: str) -> Any:
    return load_family(VARIANTS[name].family).spec_of(VARIANTS[name])


def test_sizes_are_those_of_whole_patches_up_to_the_bound() -> None:
    spec = spec_of("dinov2_vitl14")
    most = int(MAX_TOKENS**0.5) * 14
    good = {size for size in range(-14, most + 100) if find_size_problem(spec, size) is None}
    assert good == set(range(14, most + 1, 14))
    for other in (True, 14.0, "14", None):
        assert find_size_problem(spec, other)


def test_a_model_of_one_size_has_that_alone() -> None:
    spec = spec_of("data2vec_vision_base")
    assert [size for size in (208, 224, 240) if find_size_problem(spec, size) is None] == [224]


def test_a_size_that_one_variant_takes_is_let_pass() -> None:
    specs = {name: spec_of(name) for name in ("dinov2_vits14", "data2vec_vision_base")}
    for size in (14, 28, 224, None):
        check_image_size(size, specs)
        check_selected(size, specs, ["eager"], None)
    with pytest.raises(CheckpointError, match=r"cannot be baked.*\n.*not a multiple.*\n.*made for 224"):
        check_image_size(240, specs)
    with pytest.raises(
        CheckpointError, match="dinov2_vits14, images of 32 x 32 pixels: it is not a multiple of the patch size 14"
    ):
        check_selected(32, specs, ["sdpa"], None)


def test_eager_attention_needs_room() -> None:
    specs = {"dinov2_vits14": spec_of("dinov2_vits14")}
    needed = 4 * 6 * (1400 // 14) ** 4
    check_selected(1400, specs, ["eager", "sdpa"], needed)
    check_selected(1400, specs, ["sdpa"], needed - 1)
    with pytest.raises(CheckpointError, match="eager attention takes 2 GiB, of 2 GiB here"):
        check_selected(1400, specs, ["eager", "sdpa"], needed - 1)
    memory = measure_memory()
    assert memory is None or memory > 2**28


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_where_the_system_does_not_tell_its_memory_nothing_is_refused_for_it(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: str) -> int:
        raise error("not known here")

    monkeypatch.setattr("os.sysconf", refuse, raising=False)
    assert measure_memory() is None
    check_selected(3500, {"dinov2_vits14": spec_of("dinov2_vits14")}, ["eager"], measure_memory())


@pytest.mark.parametrize("image_size", [-14, 0, 100, 14_000, "42", 42.0, True])
def test_python_refuses_it_before_anything_is_built(image_size: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden("dinov2_tiny")

    def build(*_: object, **__: object) -> None:
        pytest.fail("a model was built")

    monkeypatch.setattr(nn.Module, "__init__", build)
    with pytest.raises(CheckpointError, match=f"An image size of {image_size} cannot be baked") as raised:
        conversion.convert(golden.backbone, **golden.overrides, image_size=image_size)
    assert "ive a" in raised.value.hint or "earest" in raised.value.hint


@pytest.mark.parametrize("heads", [0, -2, "none", True, 2.0])
def test_python_refuses_heads_that_are_no_number_of_heads(heads: Any) -> None:
    with pytest.raises(ConversionError, match=r"num_attention_heads: .* is no whole number"):
        conversion.convert(read_golden("dinov2_tiny").backbone, num_attention_heads=heads)


@pytest.mark.parametrize(
    ("input_size", "says"),
    [
        (13, "An input size of 13 cannot be used: it is not a multiple of the patch size 14.\nNearest: 14 or 28."),
        (50, "An input size of 50 cannot be used: it is not a multiple of the patch size 14.\nNearest: 42 or 56."),
        (14_000, "An input size of 14000 cannot be used: 1,000,000 patches"),
    ],
)
def test_a_size_that_images_cannot_have_is_refused(input_size: int, says: str) -> None:
    golden = read_golden("dinov2_tiny")
    with pytest.raises(CheckpointError) as raised:
        conversion.convert(golden.state_dict, **golden.overrides, input_size=input_size)
    assert str(raised.value).startswith(says)


def test_what_images_need_is_known_before_they_are_made() -> None:
    specs = {"dinov2_custom": replace(spec_of("dinov2_vits14"), input_size=1400)}
    needed = 4 * 6 * (1400 // 14) ** 4
    check_selected(None, specs, ["eager"], needed)
    check_selected(224, specs, ["eager"], needed - 1)  # which is then what images are made for
    with pytest.raises(CheckpointError, match=r"images of 1400 x 1400 pixels: eager.*\nGive another size\.$"):
        check_selected(None, specs, ["eager"], needed - 1)


def test_the_command_looks_at_sizes_first(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("conversion.cli.convert.measure_memory", lambda: 600)
    monkeypatch.chdir(here)
    assert main(["convert", *TINY[1:], "--image-size", "42"]) == 2
    assert "dinov2_custom, images of 42 x 42 pixels: eager attention takes" in (said := capsys.readouterr().err)
    assert said.endswith("\nGive another size.\n")
