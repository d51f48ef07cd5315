"""Models that are not converted, told by their keys."""

import pytest

from conversion.errors import CheckpointError
from conversion.state_dicts.other_kinds import IN_TRANSFORMERS, Kind, list_converted, refuse_other_kinds

KINDS = (
    Kind("a kite", ("kite.*",), "Fly it."),
    Kind("a boat", ("sail", "hull.*"), hint_in_transformers="Swim."),
    Kind("a raft", together=("log.*", "rope")),
    Kind("a ferry", ("ramp",), together=("deck", "bow")),
)


def explain_kind(*keys: str) -> tuple[str, tuple[str, ...], str]:
    with pytest.raises(CheckpointError) as error:
        refuse_other_kinds(dict.fromkeys(keys, (1, 2)), KINDS)
    return error.value.headline, error.value.problems, error.value.hint


def test_another_kind_is_named_with_the_keys_that_say_so() -> None:
    assert explain_kind("kite.tail", "norm", "kite.line") == (
        "a kite, which is not converted.", ("kite.tail (1, 2)", "kite.line (1, 2)"), "Fly it."
    )  # fmt: skip
    assert explain_kind("norm", "sail") == ("a boat, which is not converted.", ("sail (1, 2)",), list_converted())
    assert explain_kind(f"hull{IN_TRANSFORMERS}x", f"hull.{IN_TRANSFORMERS}") == (
        "a boat, which is not converted.", (f"hull.{IN_TRANSFORMERS} (1, 2)",), "Swim."
    )  # fmt: skip


def test_signs_that_count_together_do_not_count_alone() -> None:
    assert explain_kind("rope", "log.1", "log.2") == (
        "a raft, which is not converted.", ("rope (1, 2)", "log.1 (1, 2)", "log.2 (1, 2)"), list_converted()
    )  # fmt: skip
    both = ("ramp (1, 2)", "bow (1, 2)", "deck (1, 2)")
    assert explain_kind("bow", "deck", "ramp") == ("a ferry, which is not converted.", both, list_converted())
    refuse_other_kinds({"rope": (1, 2), "norm": (1, 2)}, KINDS)
    refuse_other_kinds({"log.1": (1, 2)}, KINDS)
    refuse_other_kinds({}, KINDS)
