"""What an error says, and before what the file is named that it concerns."""

from pathlib import Path

import pytest

from conversion.errors import CheckpointError, concerning


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
