"""A word from before conftest.py is read: pytest takes a path after an option that it does not know yet for a test.

It then looks for its configuration there, and does not find the project. A path behind an equals sign it leaves alone.
In other projects it says nothing: their options are their own.
"""

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
"""Of this project, where pytest is started; of an installed package it is no place to start it from."""

PATH_OPTIONS = ("--checkpoint", "--linear-head", "--labels", "--artifacts-dir", "--original")


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Say how to write it, where pytest would only say that it does not know the option."""
    is_ours = early_config.invocation_params.dir.resolve() == CHECKOUT and (CHECKOUT / "conftest.py").is_file()
    separate = [option for option in PATH_OPTIONS if option in args]
    if is_ours and separate and early_config.inipath is None:
        written = " ".join(f"{option}=PATH" for option in separate)
        raise pytest.UsageError(f"Outside this folder, paths go behind an equals sign: {written}")
