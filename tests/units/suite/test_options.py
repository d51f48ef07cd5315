"""The table of pytest's options, beside what is told of it elsewhere."""

from conversion.pytest_plugin import PATH_OPTIONS
from conversion.suite.options import OF_MODELS, OF_RUNS, _path


def test_every_option_that_takes_a_path_is_known_before_the_table_is_read() -> None:
    options = {**OF_MODELS, **OF_RUNS}
    paths = {name for name, option in options.items() if option.get("type") is _path}
    assert len(paths) > 5
    assert set(PATH_OPTIONS) == paths | {"--original"}  # which may be "bundled", too
    assert "--original" in options
