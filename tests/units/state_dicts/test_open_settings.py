"""Who tells the settings that shapes leave open: official models, the writer's code, or nobody."""

import pytest

from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.families.settings import AUTHORS, FAMILY, GATING, TIMM
from conversion.families.told import Told
from conversion.families.variants import VARIANTS
from conversion.state_dicts.open_settings import WAYS, complete_settings

DINOV2 = load_family("dinov2")
SMALL, BASE = VARIANTS["dinov2_vits14"], VARIANTS["dinov2_vitb14"]


def test_one_official_model_tells_all_that_it_has() -> None:
    found = complete_settings(
        DINOV2, "dinov2", {"num_attention_heads": 7, "layer_norm_eps": 1e-5}, {}, [SMALL], AUTHORS
    )
    by = "dinov2_vits14, the official model of these shapes"
    assert found == {
        "num_attention_heads": Told(6, by, is_given=False),
        "layer_norm_eps": Told(1e-6, by, is_given=False),
    }


def test_several_tell_what_is_the_same_in_all_and_are_named_beside_what_is_not() -> None:
    usual: dict[str, object] = {"layer_norm_eps": None}
    by = "dinov2_vits14, dinov2_vitb14, the official models of these shapes"
    assert complete_settings(DINOV2, "dinov2", usual, {}, [SMALL, BASE], AUTHORS) == {
        "layer_norm_eps": Told(1e-6, by, is_given=False)
    }
    with pytest.raises(CheckpointError) as raised:
        complete_settings(DINOV2, "dinov2", usual | {"num_attention_heads": 6}, {}, [SMALL, BASE], AUTHORS)
    assert raised.value.headline == "The tensors of this dinov2 model do not tell these settings, and no file does."
    assert raised.value.problems == (
        "num_attention_heads: give --num-attention-heads as it was in training; most such models have 6",
    )
    assert raised.value.hint == f"{WAYS} Official models of these shapes: dinov2_vits14, dinov2_vitb14."


def test_where_there_is_no_official_model_none_is_named() -> None:
    with pytest.raises(CheckpointError) as raised:
        complete_settings(DINOV2, "dinov2", {"num_attention_heads": None}, {}, [], AUTHORS)
    assert raised.value.problems == ("num_attention_heads: give --num-attention-heads as it was in training",)
    assert raised.value.hint == WAYS


def test_what_somebody_told_goes_before_an_official_model() -> None:
    told = {"num_attention_heads": Told(12, "the caller")}
    assert complete_settings(DINOV2, "dinov2", {"num_attention_heads": 6}, told, [SMALL], AUTHORS) == told


def test_timm_s_code_tells_its_default_but_not_the_activation_of_a_gate() -> None:
    by_default = {"hidden_act": Told("gelu", f"{TIMM}, by default", is_given=False)}
    assert complete_settings(DINOV2, "dinov2", {"hidden_act": "gelu"}, {}, [], TIMM) == by_default
    with pytest.raises(CheckpointError, match=r"hidden_act: give --hidden-act as it was in training"):
        complete_settings(DINOV2, "dinov2", {"hidden_act": GATING}, {}, [], TIMM)
    by_authors = {"hidden_act": Told(GATING, f"{AUTHORS}, which has no other", is_given=False)}
    assert complete_settings(DINOV2, "dinov2", {"hidden_act": GATING}, {}, [], AUTHORS) == by_authors


def test_a_family_that_shares_its_keys_is_asked_for() -> None:
    with pytest.raises(
        CheckpointError, match=r"family: give --family if it is such a model; other kinds have the same"
    ):
        complete_settings(load_family("beit"), "beit", {FAMILY: "beit"}, {}, [], AUTHORS)
