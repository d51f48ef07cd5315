"""The settings files of a transformers folder: what is said of one that cannot be read."""

from pathlib import Path

import pytest

from conversion.state_dicts.folder import AGAIN, describe_unreadable

CONFIG = Path("folder") / "config.json"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n no such size\nand more"), "ValueError: no such size"),
        (KeyError(), "KeyError: "),
        (TypeError("x" * 301), f"TypeError: {'x' * 300}"),
    ],
)
def test_the_first_line_of_an_error_of_the_library_is_told(error: Exception, said: str) -> None:
    found = describe_unreadable(CONFIG, error)
    assert (found.headline, found.problems, found.hint) == (
        f"{CONFIG}: is not what transformers reads.", (said,), AGAIN
    )  # fmt: skip
