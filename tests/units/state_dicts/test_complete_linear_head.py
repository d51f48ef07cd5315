"""A linear head is brought together with its backbone, and widened where it takes one vector of the two."""

import pytest
import torch
from torch import Tensor

from conversion.errors import CheckpointError, KeyMapError, VariantError
from conversion.families.linear_head import FOUR_LAYERS, OTHER_BACKBONE, WEIGHT
from conversion.families.settings import AUTHORS, TIMM
from conversion.families.told import Told, ToldStateDict
from conversion.state_dicts.linear_head import complete_linear_head, fit_linear_head, merge_linear_head
from tests.support.golden import read_golden

BACKBONE = read_golden("dinov2_tiny").backbone
WIDTH, CLASSES = BACKBONE["cls_token"].shape[2], 3
NOTES = {
    "token": "the linear head takes the CLS token alone: zeros stand for its weights on the mean of patches; restored, "
    "they stay",
    "avg": "the linear head takes the mean of patches alone: zeros stand for its weights on the CLS token; restored, "
    "they stay",
}


def with_head(vectors: int = 1) -> dict[str, Tensor]:
    """The backbone with a linear head that takes so many vectors."""
    weight = torch.arange(1.0, CLASSES * vectors * WIDTH + 1).view(CLASSES, vectors * WIDTH)
    return {**BACKBONE, WEIGHT: weight, "linear_head.bias": torch.zeros(CLASSES)}


def check_widened(found: Tensor, own: Tensor, pooling: str) -> None:
    halves = dict(zip(("token", "avg"), found.split(WIDTH, dim=1), strict=True))
    assert torch.equal(halves.pop(pooling), own)
    (other,) = halves.values()
    assert not other.any()


@pytest.mark.parametrize("given", [{}, {"global_pool": "token"}, {"global_pool": "avg"}])
def test_a_head_on_one_vector_is_widened_by_zeros_for_the_other(given: dict[str, str]) -> None:
    state_dict, pooling = with_head(), given.get("global_pool", "token")
    widened, notes = complete_linear_head(state_dict, given, None)
    check_widened(widened[WEIGHT], state_dict[WEIGHT], pooling)
    assert notes == (NOTES[pooling],)
    assert {key: tensor for key, tensor in widened.items() if key != WEIGHT} == {
        key: tensor for key, tensor in state_dict.items() if key != WEIGHT
    }
    assert not isinstance(widened, ToldStateDict)


def test_a_file_tells_which_vector_it_is_and_what_else_it_tells_stays() -> None:
    told = {"global_pool": Told("avg", "config.json")}
    state_dict = ToldStateDict(with_head(), told, TIMM, ("one", "two", "three"))
    widened, notes = complete_linear_head(state_dict, {}, "dinov2_vits14_1layer")
    check_widened(widened[WEIGHT], state_dict[WEIGHT], "avg")
    assert notes == (NOTES["avg"],)
    assert isinstance(widened, ToldStateDict)
    assert (widened.told, widened.writer, widened.labels) == (told, TIMM, ("one", "two", "three"))
    assert TIMM != AUTHORS


def test_of_an_official_variants_head_it_must_be_told() -> None:
    with pytest.raises(VariantError) as error:
        complete_linear_head(with_head(), {}, "dinov2_vits14_1layer")
    assert error.value.headline == (
        "The linear head of dinov2_vits14_1layer takes CLS token and mean of patches; this one takes one of both."
    )
    assert error.value.hint == (
        "Name no variant, and say which it takes: --global-pool token, or --global-pool avg."
    )  # fmt: skip
    assert complete_linear_head(with_head(), {"global_pool": "avg"}, "dinov2_vits14_1layer")[1] == (NOTES["avg"],)


@pytest.mark.parametrize(
    ("vectors", "said", "hint"),
    [
        (5, "is made for four layers (torch.hub: dinov2_*_lc4); transformers' classifier takes one.", FOUR_LAYERS),
        (
            3,
            f"does not fit this backbone: on its tokens it would be {2 * WIDTH} wide, of CLS token and mean of "
            f"patches, or {WIDTH}, of one of them.",
            OTHER_BACKBONE,
        ),
    ],
)
def test_a_head_that_takes_something_else_is_refused(vectors: int, said: str, hint: str) -> None:
    with pytest.raises(CheckpointError) as error:
        complete_linear_head(with_head(vectors), {}, None)
    assert (error.value.headline, error.value.hint) == (f"{WEIGHT} ({CLASSES}, {vectors * WIDTH}) {said}", hint)


@pytest.mark.parametrize(
    "state_dict",
    [
        with_head(vectors=2),
        BACKBONE,
        {**BACKBONE, "linear_head.bias": torch.zeros(3)},
        {WEIGHT: torch.zeros(3, WIDTH), "cls_token": torch.zeros(1, 1, WIDTH)},
        read_golden("data2vec_vision_tiny_ft1k").state_dict,
    ],
    ids=["of both", "no head", "its bias alone", "no family", "another family"],
)
def test_all_else_is_left_as_it_is(state_dict: dict[str, Tensor]) -> None:
    found, notes = complete_linear_head(state_dict, {}, None)
    assert found is state_dict
    assert notes == ()


NAMES = [f"classifier_1_blocks_avgpool_True_lr_0_0000{number}" for number in (1, 2)]


def draw_several() -> dict[str, Tensor]:
    """The heads of a linear evaluation: two, of ones and of twos."""
    return {
        f"classifiers_dict.{name}.linear.{key}": torch.full(shape, number)
        for number, name in enumerate(NAMES, start=1)
        for key, shape in {"weight": (CLASSES, 2 * WIDTH), "bias": (CLASSES,)}.items()
    }


def test_of_a_model_without_heads_of_its_own_files_a_head_is_left_as_it_is() -> None:
    """A later step refuses it, since such a model takes none."""
    heads = draw_several()
    assert fit_linear_head(read_golden("data2vec_vision_tiny_ft1k").state_dict, heads) is heads


@pytest.mark.parametrize("number", [1, 2])
def test_of_several_heads_the_one_that_was_named_is_merged(number: int) -> None:
    merged = merge_linear_head(BACKBONE, draw_several(), NAMES[number - 1])
    assert merged.keys() - BACKBONE.keys() == {WEIGHT, "linear_head.bias"}
    assert bool((merged[WEIGHT] == number).all())


def test_a_head_that_cannot_be_chosen_is_refused_as_its_files() -> None:
    with pytest.raises(CheckpointError, match=r"^the linear head's file: holds 2 linear heads\."):
        merge_linear_head(BACKBONE, draw_several())


@pytest.mark.parametrize("prefix", ["", "linear_head."])
def test_what_else_a_heads_file_holds_is_named_once(prefix: str) -> None:
    head = {"weight": torch.zeros(CLASSES, 2 * WIDTH), "bias": torch.zeros(CLASSES), "scale": torch.zeros(1)}
    merged = merge_linear_head(BACKBONE, {prefix + key: tensor for key, tensor in head.items()})
    assert merged.keys() - BACKBONE.keys() == {WEIGHT, "linear_head.bias", "linear_head.scale"}


def test_two_heads_are_one_too_many() -> None:
    head = {"weight": torch.zeros(CLASSES, 2 * WIDTH), "bias": torch.zeros(CLASSES)}
    with pytest.raises(KeyMapError) as error:
        merge_linear_head(with_head(), head)
    assert error.value.headline == "The checkpoint has a linear head of its own."
    assert error.value.problems == (WEIGHT, "linear_head.bias")
    assert error.value.hint == "Leave --linear-head out."


def test_what_is_told_of_both_comes_together() -> None:
    told = {"image_mean": Told((0.5, 0.5, 0.5), "a file")}
    backbone = ToldStateDict(BACKBONE, told, TIMM, ("one", "two", "three"))
    name = NAMES[0].replace("True", "False")
    alone = {
        f"{name}.{key}": torch.zeros(*shape) for key, shape in {"weight": (CLASSES, WIDTH), "bias": (CLASSES,)}.items()
    }
    merged = merge_linear_head(backbone, alone, name)
    assert isinstance(merged, ToldStateDict)
    pooled = Told("token", f"the linear head's name, {name}")
    assert (merged.told, merged.writer, merged.labels) == ({**told, "global_pool": pooled}, TIMM, backbone.labels)
    of_head_alone = merge_linear_head(BACKBONE, alone, name)
    assert isinstance(of_head_alone, ToldStateDict)
    assert (of_head_alone.told, of_head_alone.writer) == ({"global_pool": pooled}, AUTHORS)
    assert not isinstance(merge_linear_head(BACKBONE, None), ToldStateDict)
    assert merge_linear_head(BACKBONE, {}) == BACKBONE
