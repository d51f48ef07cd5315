"""What an error says, and before what the file is named that it concerns."""

import pickle
from pathlib import Path

import pytest

from conversion.errors import CheckpointError, concerning


def test_an_error_is_the_same_in_another_process() -> None:
    error = CheckpointError("a: it is empty", ["norm.bias", "norm.weight"], "Copy it again.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CheckpointError
    assert (again.headline, again.problems, again.hint) == (error.headline, error.problems, error.hint)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("headline", "said"),
    [
        ("it holds a state dict", "a: it holds a state dict"),
        ("a: it is empty", "a: it is empty"),
        (str(Path("a", "config.json: it is empty")), str(Path("a", "config.json: it is empty"))),
        ("a state dict is empty", "a: a state dict is empty"),
    ],
)
def test_the_file_is_named_whatever_letters_the_message_has(headline: str, said: str) -> None:
    with pytest.raises(CheckpointError) as raised, concerning("a"):
        raise CheckpointError(headline, ["norm.bias"], "Copy it again.")
    assert str(raised.value) == f"{said}\n  - norm.bias\nCopy it again."
