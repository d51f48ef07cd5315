"""What has to happen before conftest.py is read: a word on paths, and no garbage collection while libraries load.

pytest takes a path after an option that it does not know yet for a test. It then looks for its configuration there, and
does not find the project. A path behind an equals sign it leaves alone. In other projects nothing happens here: their
options are their own.
"""

import gc
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
"""Of this project, where pytest is started; of an installed package it is no place to start it from."""

PATH_OPTIONS = (
    "--checkpoint",
    "--linear-head",
    "--depth-head",
    "--labels",
    "--artifacts-dir",
    "--parity-report",
    "--pictures",
    "--original",
)
"""Those of ``suite/options.py``, which is imported later."""


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Say how to write paths, where pytest would only say that it does not know the option.

    The garbage collector goes through all that libraries hold again and again while they load: a second of five. The
    suite turns it on again before the first test.
    """
    if early_config.rootpath == CHECKOUT:
        gc.disable()
    is_ours = early_config.invocation_params.dir.resolve() == CHECKOUT and (CHECKOUT / "conftest.py").is_file()
    separate = [option for option in PATH_OPTIONS if option in args]
    if is_ours and separate and early_config.inipath is None:
        written = " ".join(f"{option}=PATH" for option in separate)
        raise pytest.UsageError(f"Outside this folder, paths go behind an equals sign: {written}")
