"""Data2Vec-Vision's ledger, entry by entry: each is still there, of the size it says, and vanishes under its cause.

Most entries are the official converter's settings, put here in place of ours: the comparison must fail with them, and
agree bit for bit once the original computes the same. When a test here fails because a deviation is gone, transformers
has changed: take the entry out of the ledger. The image processor's entries are in ``test_preprocessing.py``.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conversion import Conversion
from conversion.artifact.load import load_converted
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.families.beit_architecture.config import OUT_INDICES_SHIFT
from conversion.families.beit_architecture.deviations import FEATURE_LAYOUT
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.settings import option_of
from conversion.families.told import write_value
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.suite.inputs import InputCase, draw_inputs
from tests.support.commands import left_over, run
from tests.support.data2vec_vision import CLASSIFIER, PRETRAINED, SEGMENTATION, convert_quietly, tell
from tests.support.golden import GoldenModel, read_golden
from tests.support.runs import run_original, verify_input

FAMILY = load_family("data2vec_vision")


def convert_drawn(spec: Data2VecVisionSpec) -> tuple[Conversion, dict[str, Tensor]]:
    """A synthetic model of this spec, converted; and its original state dict."""
    state_dict = draw_state_dict(FAMILY, spec, "tiny", 0)
    return convert_quietly(state_dict, **tell(spec)), state_dict


def verify(out: Conversion, original: nn.Module, *, batch: int = 1, masked: bool = False) -> InputVerdict:
    """Verify a conversion, whatever was done to it, against an original, eager, float32, no deviation allowed for."""
    size = out.spec.image_size
    run = run_original(FAMILY, out.spec, original, InputCase("native", size, size, batch=batch, masked=masked))
    return verify_input("native", run, load_converted(out, attention="eager"))


def check_failure(result: InputVerdict, first_point: str, at_least: float) -> None:
    """The verdict is failed, first at this capture point, with a difference in the end of at least this size."""
    assert result.verdict is Verdict.FAILED
    failed = [point for point in result.points if point.verdict is Verdict.FAILED]
    assert failed[0].point == first_point
    assert failed[-1].difference is not None
    assert failed[-1].difference.max_abs > at_least, "gone: take it out of the ledger"


def check_exact(result: InputVerdict) -> None:
    assert {point.verdict for point in result.points} == {Verdict.EXACT}


def set_eps(eps: float, original: nn.Module) -> None:
    for module in original.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


@pytest.mark.parametrize("golden", [PRETRAINED, CLASSIFIER, SEGMENTATION], ids=lambda golden: golden.name)
def test_the_default_eps_makes_a_difference_and_explains_it_all(golden: GoldenModel) -> None:
    """The ledger's layer-norm-eps-default."""
    import transformers

    out, state_dict = convert_drawn(golden.spec)
    original = FAMILY.load_original(out.spec, state_dict)
    check_exact(verify(out, original))
    out.config.layer_norm_eps = transformers.Data2VecVisionConfig().layer_norm_eps
    assert out.config.layer_norm_eps == 1e-12
    check_failure(verify(out, original), "block.0.norm1", 1e-5)
    set_eps(1e-12, original)
    check_exact(verify(out, original))


def test_a_model_without_its_mask_token_does_not_load_whole() -> None:
    """The ledger's mask-token-default: transformers itself only warns that it ignores a tensor."""
    import transformers

    out, _ = convert_drawn(PRETRAINED.spec)
    assert transformers.Data2VecVisionConfig().use_mask_token is False, "gone: take it out of the ledger"
    out.config.use_mask_token = False
    with pytest.raises(ArtifactError, match=r"unexpected keys: embeddings\.mask_token"):
        load_converted(out)
    without = {key: tensor for key, tensor in out.state_dict.items() if key != "embeddings.mask_token"}
    lost = load_converted(replace(out, state_dict=without), attention="eager")
    inputs = draw_inputs(InputCase("masked", 80, 80, masked=True), 16, 0)
    with pytest.raises(AttributeError):
        lost(inputs.pixel_values, bool_masked_pos=inputs.bool_masked_pos)


POSITIONS = {
    # the tensors that are lost, and the config's setting that loses them
    "shared_position_bias": ("relative_position_bias_table", "use_shared_relative_position_bias"),
    "block_position_bias": ("relative_position_bias_table", "use_relative_position_bias"),
    "absolute_positions": ("position_embeddings", "use_absolute_position_embeddings"),
}


@pytest.mark.parametrize("feature", POSITIONS)
def test_positions_that_the_config_does_not_ask_for_are_lost(feature: str) -> None:
    """The ledger's position-bias-by-name and absolute-positions-default: what the official converter loads."""
    import transformers

    everything = replace(PRETRAINED.spec, shared_position_bias=True, block_position_bias=True, absolute_positions=True)
    out, state_dict = convert_drawn(everything)
    check_exact(verify(out, FAMILY.load_original(everything, state_dict)))
    ending, setting = POSITIONS[feature]
    assert getattr(transformers.Data2VecVisionConfig(), setting) is False, "gone: take it out of the ledger"
    setattr(out.config, setting, False)
    with pytest.raises(ArtifactError, match=f"unexpected keys: .*{ending}"):
        load_converted(out)
    less = replace(everything, **{feature: False})
    targets = {name for names in FAMILY.expand_key_map(less).values() for name in names}
    lost = replace(out, state_dict={key: tensor for key, tensor in out.state_dict.items() if key in targets})
    check_failure(verify(lost, FAMILY.load_original(everything, state_dict)), FIRST_POINT[feature], 0.05)
    kept = {key: tensor for key, tensor in state_dict.items() if key in FAMILY.original_shapes(less)}
    check_exact(verify(lost, FAMILY.load_original(less, kept)))


FIRST_POINT = {
    "shared_position_bias": "block.0.attention",
    "block_position_bias": "block.0.attention",
    "absolute_positions": "embeddings",
}


def test_unshifted_out_indices_take_features_of_two_blocks_earlier() -> None:
    """The ledger's out-indices-shift."""
    spec = replace(SEGMENTATION.spec, depth=7, out_indices=(2, 4, 5, 6))
    out, state_dict = convert_drawn(spec)
    original = FAMILY.load_original(spec, state_dict)
    check_exact(verify(out, original))
    out.config.out_indices = list(spec.out_indices)
    check_failure(verify(out, original), "feature.0", 0.05)
    original.out_indices = tuple(index - OUT_INDICES_SHIFT for index in spec.out_indices)
    check_exact(verify(out, original))


def test_features_of_a_batch_lie_otherwise_in_memory() -> None:
    """The ledger's feature-memory-layout: rounding, and none for a single image."""
    out, state_dict = convert_drawn(SEGMENTATION.spec)
    original = FAMILY.load_original(out.spec, state_dict)
    check_exact(verify(out, original))
    assert verify(out, original, batch=2).verdict is not Verdict.EXACT, "gone: take it out of the ledger"
    original.contiguous_features = False
    check_exact(verify(out, original, batch=2))
    assert FAMILY.find_deviation(out.spec, (2, 3, 96, 96)) is FEATURE_LAYOUT
    assert FAMILY.find_deviation(out.spec, (1, 3, 96, 96)) is None
    assert FAMILY.find_deviation(PRETRAINED.spec, (2, 3, 80, 80)) is None


OFFICIAL_SETTINGS = """
import conversion.families.data2vec_vision.family, dataclasses
build = conversion.families.data2vec_vision.family.FAMILY.build_config
def build_as_the_official_converter(spec, labels):
    config = build(spec, labels)
    for name, value in {settings}.items():
        setattr(config, name, value)
    return config
object.__setattr__(conversion.families.data2vec_vision.family.FAMILY, "build_config", build_as_the_official_converter)
"""


@pytest.mark.parametrize(
    ("suffix", "settings", "cause"),
    [
        ("", {"layer_norm_eps": 1e-12}, "known deviation 'layer-norm-eps-default': the config's default is 1e-12"),
        ("_ft1k", {"layer_norm_eps": 1e-12}, "known deviation 'layer-norm-eps-default': the config's default is 1e-12"),
        ("", {"use_mask_token": False}, "known deviation 'mask-token-default': by default the model is built without"),
        ("_ade20k", {"out_indices": [0, 1, 2, 3]}, "known deviation 'out-indices-shift': the output of block i is"),
        ("_ft1k", {"use_relative_position_bias": False}, "known deviation 'position-bias-by-name': by default none"),
        ("", {"use_absolute_position_embeddings": False}, "known deviation 'absolute-positions-default': by default"),
    ],
)
def test_the_official_converters_settings_fail_and_are_named(
    suffix: str, settings: dict[str, object], cause: str, tmp_path: Path
) -> None:
    golden = read_golden(f"data2vec_vision_tiny{suffix}")
    spec = replace(golden.spec, absolute_positions="use_absolute_position_embeddings" in settings)
    torch.save(draw_state_dict(FAMILY, spec, "tiny", 0), tmp_path / "tiny.pth")
    told = [f"{option_of(name)}={write_value(value)}" for name, value in golden.overrides.items()]
    options = ("--checkpoint", "tiny.pth", *told)
    code, output = run(tmp_path, *options, "--save-artifacts", plugin=OFFICIAL_SETTINGS.format(settings=settings))
    assert code == 1
    assert "config.json describes another model than the original" in output
    assert cause in output
    assert left_over(tmp_path) == []
    code, output = run(tmp_path, *options)
    assert code == 0, output
