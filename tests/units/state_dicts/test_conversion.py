"""What a conversion says of itself, and of what was given for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import ConversionError, ConversionWarning, KeyMapError, VariantError
from conversion.families.base import load_family
from conversion.families.told import Told, ToldStateDict
from conversion.mapping import key_map
from tests.support.golden import convert, read_golden
from tests.support.small_dinov2 import SMALL, TOLD
from tests.support.switched import draw

CLASSIFIER = read_golden("dinov2_tiny_1layer")


def refuse(state_dict: Any, **options: Any) -> tuple[str, tuple[str, ...], str]:
    with pytest.raises(ConversionError) as error:
        conversion.convert(state_dict, **options)
    return error.value.headline, error.value.problems, error.value.hint


@pytest.mark.parametrize("where", ["checkpoint", "linear_head"])
def test_what_is_no_tensor_under_a_name_is_refused_all_of_it(where: str) -> None:
    foreign: dict[Any, Any] = {"epoch": 3, 7: torch.zeros(1), "args": {"lr": 1}}
    given: dict[str, Any] = {"checkpoint": CLASSIFIER.backbone, "linear_head": CLASSIFIER.linear_head}
    given[where] = {**given[where], **foreign}
    assert refuse(given["checkpoint"], linear_head=given["linear_head"], **CLASSIFIER.overrides) == (
        "A state dict holds tensors under names, and nothing else.",
        ("'epoch': a int", "7: a Tensor", "'args': a dict"),
        "Read the file by conversion.load_checkpoint: that takes the state dict out of it.",
    )


def damage() -> tuple[str, Tensor, dict[str, Tensor]]:
    """A classifier whose index of relative positions was truncated, as averaging does it: key, what it was, and all."""
    golden = read_golden("data2vec_vision_tiny_ft1k")
    key, whole = next(iter(golden.family.derive(golden.spec).items()))
    return key, whole, {**golden.state_dict, key: whole - (whole == whole.max()).to(whole.dtype)}


def test_a_damaged_buffer_is_computed_again_and_warned_of() -> None:
    key, whole, damaged = damage()
    with pytest.warns(ConversionWarning) as said:
        out = conversion.convert(damaged, **read_golden("data2vec_vision_tiny_ft1k").overrides)
    count = int((whole == whole.max()).sum())
    text = f"{key}: {count:,} of {whole.numel():,} entries truncated by averaging; computed again"
    assert [str(each.message) for each in said] == [f"{out.variant}: {text}."]
    assert out.recomputed == (key,)
    assert out.notes[-1] == text
    assert convert("data2vec_vision_tiny_ft1k").recomputed == ()


def test_the_warning_points_at_the_line_that_converts() -> None:
    with pytest.warns(ConversionWarning) as said:
        conversion.convert(damage()[2], **read_golden("data2vec_vision_tiny_ft1k").overrides)
    assert [each.filename for each in said] == [__file__]


def test_what_was_filled_in_is_named() -> None:
    out = conversion.convert(draw(SMALL), **TOLD)
    assert out.filled_in == ()
    lacking = {key: tensor for key, tensor in draw(SMALL).items() if not key.endswith("gamma")}
    out = conversion.convert(lacking, **TOLD)
    assert sorted(out.filled_in) == [f"blocks.{block}.ls{layer}.gamma" for block in range(2) for layer in (1, 2)]


def test_what_transformers_has_no_place_for_is_kept_beside_with_the_reason() -> None:
    golden, out = read_golden("dinov3_tiny"), convert("dinov3_tiny")
    unplaced = key_map.list_unplaced(golden.family.expand_key_map(out.spec))
    assert unplaced
    for key in unplaced:
        assert out.dropped[key] == golden.family.explain_absence(key)
        assert torch.equal(out.left_out[key], golden.state_dict[key])


def test_a_model_of_one_size_is_baked_for_none() -> None:
    golden = read_golden("data2vec_vision_tiny")
    own = convert("data2vec_vision_tiny")
    out = conversion.convert(golden.state_dict, image_size=own.spec.image_size, **golden.overrides)
    assert (out.baked, out.input_size) == (None, own.spec.image_size)
    assert conversion.convert(draw(SMALL), image_size=56, **TOLD).baked == 56
    assert convert().baked is None


def test_the_files_of_both_are_its_origins(tmp_path: Path) -> None:
    torch.save(CLASSIFIER.backbone, tmp_path / "backbone.pth")
    torch.save(CLASSIFIER.linear_head, tmp_path / "head.pth")
    backbone = conversion.load_checkpoint(tmp_path / "backbone.pth")
    head = conversion.load_checkpoint(tmp_path / "head.pth")
    out = conversion.convert(backbone, linear_head=head, **CLASSIFIER.overrides)
    files = {role: [path.name for path in origin.files] for role, origin in out.origins.items()}
    assert files == {"checkpoint": ["backbone.pth"], "linear_head": ["head.pth"]}
    out = conversion.convert(backbone, linear_head=CLASSIFIER.linear_head, **CLASSIFIER.overrides)
    assert out.origins == {}  # half a source is none


def test_of_a_named_classifier_the_head_must_take_what_its_own_does() -> None:
    family = load_family("dinov2")
    tensors = family.original_tensors(family.spec_of(conversion.VARIANTS["dinov2_vits14_1layer"]))
    narrow = {**tensors, "linear_head.weight": tensors["linear_head.weight"][:, :384]}
    with pytest.raises(VariantError, match=r"^The linear head of dinov2_vits14_1layer takes CLS token and mean"):
        conversion.convert(narrow, "dinov2_vits14_1layer")


def test_of_several_linear_heads_the_one_that_was_named_is_converted() -> None:
    names = [f"classifier_1_blocks_avgpool_True_lr_0_0000{number}" for number in (1, 2)]
    several: dict[str, Tensor] = {
        f"classifiers_dict.{name}.linear.{key}": tensor + number
        for number, name in enumerate(names)
        for key, tensor in CLASSIFIER.linear_head.items()
    }
    for number, name in enumerate(names):
        out = conversion.convert(
            CLASSIFIER.backbone, linear_head=several, linear_head_entry=name, **CLASSIFIER.overrides
        )
        assert torch.equal(out.state_dict["classifier.bias"], CLASSIFIER.linear_head["bias"] + number)


def test_a_head_under_its_prefix_is_the_same_head() -> None:
    prefixed = {f"linear_head.{key}": tensor for key, tensor in CLASSIFIER.linear_head.items()}
    out = conversion.convert(CLASSIFIER.backbone, linear_head=prefixed, **CLASSIFIER.overrides)
    assert out.source.keys() == convert("dinov2_tiny_1layer").source.keys()
    both = {**CLASSIFIER.state_dict}
    with pytest.raises(KeyMapError, match=r"^The checkpoint has a linear head of its own\."):
        conversion.convert(both, linear_head=prefixed, **CLASSIFIER.overrides)


@pytest.mark.parametrize("token", [{}, {"cls_token": torch.zeros(3)}], ids=["absent", "misshapen"])
def test_a_backbone_without_a_usable_token_is_refused_for_that(token: dict[str, Tensor]) -> None:
    others = {key: tensor for key, tensor in CLASSIFIER.backbone.items() if key != "cls_token"}
    with pytest.raises(ConversionError, match="cls_token"):
        conversion.convert({**others, **token}, linear_head=CLASSIFIER.linear_head, **CLASSIFIER.overrides)


def test_a_setting_that_is_told_twice_must_be_the_same() -> None:
    golden = read_golden("dinov2_tiny")
    told = {"num_attention_heads": Told(2, "config.json", is_given=False)}
    out = conversion.convert(ToldStateDict(golden.state_dict, told), **golden.overrides)
    assert out.told["num_attention_heads"] == told["num_attention_heads"]
    assert refuse(ToldStateDict(golden.state_dict, told), **{**golden.overrides, "num_attention_heads": 4}) == (
        "A setting is told twice, with different values.",
        ("num_attention_heads: config.json says 2, not 4",),
        "Leave the wrong option out. If the file, beside this one or above it, is another checkpoint's, move it.",
    )
