"""Which tests a run collects: where it is about variants, those that verify one, and no others of that name.

Where nothing is selected, variants that are the same model but for images, number of classes or largest depth are
verified once.
"""

import difflib
from pathlib import Path
from typing import Any

import pytest

from conversion.families.variants import VARIANTS
from conversion.suite.extent import has_twin, is_named, is_whole
from conversion.suite.options import read_request
from conversion.suite.settings import Request

FOLDER = ("tests", "parity")
"""Where the tests lie that verify a variant: those with the fixture ``subject``."""

NARROWED, UNSELECTED = "narrowed", "unselected"
"""Of a worker's input: the controller's answers. A worker is given paths by pytest-xdist, whatever the user gave."""


NEARLY = 0.9
"""How alike a variant's name and one that is typed wrongly are, by ``difflib``: in all but a letter or two."""


def names_variants(keyword: str) -> bool:
    """Whether an expression of ``-k`` names an official variant, or is one's name with a letter or two wrong."""
    is_nearly = keyword.isidentifier() and difflib.get_close_matches(keyword, VARIANTS, n=1, cutoff=NEARLY)
    return bool(is_nearly) or any(is_named(name, keyword) for name in VARIANTS)


def is_narrowed(config: pytest.Config) -> bool:
    """Whether only the folder of the tests that verify a variant is collected.

    It is where ``-k`` names a variant, or ``--checkpoint`` is given, and the command line has no path of a test.
    """
    if hasattr(config, "workerinput"):
        narrowed: bool = config.workerinput[NARROWED]
        return narrowed
    is_of_variants = config.option.checkpoint is not None or names_variants(config.option.keyword)
    return is_of_variants and config.args_source is pytest.Config.ArgsSource.TESTPATHS


def is_unselected(config: pytest.Config) -> bool:
    """Whether all tests are collected: neither ``-k`` nor a path selects any."""
    if hasattr(config, "workerinput"):
        unselected: bool = config.workerinput[UNSELECTED]
        return unselected
    return not config.option.keyword and config.args_source is pytest.Config.ArgsSource.TESTPATHS


def list_twins(request: Request) -> list[str]:
    """List the variants that a run of all tests leaves out.

    Each differs from one that it verifies in its images, number of classes or largest depth alone. Both may be
    shortened.
    """
    rows = {} if request.is_all else VARIANTS
    return [name for name, row in rows.items() if has_twin(row) and not is_whole(row, request)]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput[NARROWED] = is_narrowed(node.config)
    node.workerinput[UNSELECTED] = is_unselected(node.config)


def pytest_report_header(config: pytest.Config) -> str | None:
    if is_unselected(config) and (twins := list_twins(read_request(config.option))):
        differing = "but for images, number of classes or largest depth"
        return f"parity: {len(twins)} variants are left out, the same models as others {differing}: see --all"
    if not names_variants(config.option.keyword) or not is_narrowed(config):
        return None
    return "parity: -k is about variants: only what verifies them is run; for other tests give their path, too"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave other folders unread, which saves the import of all their tests."""
    folder = config.rootpath.joinpath(*FOLDER)
    is_on_the_way = collection_path.is_relative_to(folder) or folder.is_relative_to(collection_path)
    return True if is_narrowed(config) and not is_on_the_way else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others: list[pytest.Item] = []
    if config.option.checkpoint is not None or is_narrowed(config):
        others = [item for item in items if "subject" not in getattr(item, "fixturenames", ())]
    elif is_unselected(config):
        twins = list_twins(read_request(config.option))
        others = [item for item in items if find_subject(item) in twins]
    if others:
        config.hook.pytest_deselected(items=others)
        left_out = set(others)
        items[:] = [item for item in items if item not in left_out]


def find_subject(item: pytest.Item) -> str | None:
    """Find which variant a test verifies; None of a test that verifies none."""
    callspec = getattr(item, "callspec", None)  # only parametrized tests have one
    return callspec.params.get("subject") if callspec else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    is_empty = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    if is_empty and names_variants(config.option.keyword) and is_narrowed(config):
        said = "-k is about variants, so only the tests that verify them were looked at. For others:"
        terminalreporter.write_line(f'{said} pytest tests -k "{config.option.keyword}"', red=True)
