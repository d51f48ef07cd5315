"""The parity suite as a pytest plugin: fixtures, header and closing table."""

import re
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import product
from typing import Any

import pytest

from conversion.artifact.versions import describe_versions
from conversion.errors import ConversionError, ConversionWarning
from conversion.families.base import Spec
from conversion.families.variants import VARIANTS, find_variant
from conversion.intake.transformers_folder import is_transformers_folder
from conversion.suite import reporting
from conversion.suite.axes import (
    check_axes,
    check_checkpoint,
    check_image_size,
    check_selected,
    choose_variants,
)
from conversion.suite.extent import choose_row
from conversion.suite.memory import measure_memory, resume_collection
from conversion.suite.options import add_options, read_request
from conversion.suite.pool import Pool
from conversion.suite.progress import show_progress, silence_loading
from conversion.suite.publishing import ask_in_terminal, check_places, check_publisher, publish, refuse_pushes
from conversion.suite.rows import collect_rows, list_outcomes
from conversion.suite.selection import find_subject
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from conversion.suite.summary import list_kept, summarise
from conversion.suite.threads import prepare_torch
from conversion.suite.work import estimate_work

SUBJECT_KEY = pytest.StashKey[Mapping[str, Spec]]()
REQUEST_KEY = pytest.StashKey[Request]()
AXES = ("device", "dtype", "attention")
"""Of the matrix; where the last one is an attention implementation, exports have their own name."""

PLACES_KEY = pytest.StashKey[bool]()
"""The Hub was asked what lies where artifacts are to go: every worker says what was selected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser.getgroup("parity", "conversion and proof"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    resume_collection()


def pytest_configure(config: pytest.Config) -> None:
    prepare_torch(*getattr(config, "workerinput", {}).get("place", (0, 1)))
    try:
        config.stash[REQUEST_KEY] = read_request(config.option)
        if not hasattr(config, "workerinput"):  # it is written where the run was started
            reporting.check_report(config.option.parity_report)
        refuse_pushes(config.stash[REQUEST_KEY], getattr(config.option, "tx", None) or ())
        checkpoint = config.option.checkpoint
        if checkpoint and not is_transformers_folder(checkpoint):  # what is warned of is among the remarks, once
            config.addinivalue_line("filterwarnings", "ignore::conversion.errors.ConversionWarning")
        with warnings.catch_warnings(action="ignore", category=ConversionWarning):
            config.stash[SUBJECT_KEY] = choose_variants(config.stash[REQUEST_KEY])
        config.option.device, config.option.dtype, config.option.attention = check_axes(
            config.option.device, config.option.dtype, config.option.attention
        )
        check_image_size(config.option.image_size, config.stash[SUBJECT_KEY])
        if not hasattr(config, "workerinput"):
            check_publisher(config.stash[REQUEST_KEY])
    except ConversionError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(reporting)
    show_progress(config, config.stash[REQUEST_KEY])


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"parity: {describe_versions()}"]
    if config.option.weights == "pretrained":
        unpublished = [name for name, variant in VARIANTS.items() if not variant.is_published]
        lines.append(f"parity: nothing is published, and nothing verified, of {', '.join(unpublished)}")
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    names = [_mark(name, metafunc.config.stash[REQUEST_KEY]) for name in metafunc.config.stash[SUBJECT_KEY]]
    metafunc.parametrize("subject", names, indirect=True, scope="session")
    axes = [axis for axis in AXES if axis in metafunc.fixturenames]
    if axes == list(AXES):
        exports = [export.cell for export in metafunc.config.stash[REQUEST_KEY].exports]
        cells = [*product(*map(metafunc.config.getoption, AXES)), *exports]
        metafunc.parametrize(AXES, cells, ids=["-".join(cell) for cell in cells])
    else:
        for axis in axes:
            metafunc.parametrize(axis, metafunc.config.getoption(axis))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        _check_selected(config, {find_subject(item) for item in items})
    # or one worker would begin with the longest when the others are done
    if hasattr(config, "workerinput"):
        request = config.stash[REQUEST_KEY]
        works = {
            name: estimate_work(choose_row(name, request), is_thorough=request.is_thorough)
            for name in {find_subject(item) or "" for item in items}
        }
        items.sort(key=lambda item: works[find_subject(item) or ""], reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    _check_selected(node.config, {found[1] for test in ids if (found := re.search(r"\[(\w+)", test))})


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """The variants under test."""
    silence_loading()
    tests: dict[str, list[pytest.Item]] = {}
    for item in request.session.items:
        if name := find_subject(item):
            tests.setdefault(name, []).append(item)
    with closing(Pool(request.config.stash[REQUEST_KEY], tests)) as pool:
        yield pool


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Subject]:
    """The variant under test, with everything made of it."""
    yield pool.take(request.param)
    pool.drop(request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and config.option.keyword.isidentifier():
        try:
            find_variant(config.option.keyword)
        except ConversionError as error:
            terminalreporter.write_line(str(error), red=True)
    summarise(
        terminalreporter,
        config.option.artifacts_dir if config.option.save_artifacts else None,
        config.stash.get(reporting.WRITTEN, None),
        list_outcomes(collect_rows(terminalreporter, config)),
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    yield  # pytest has written its last line then
    request = session.config.stash[REQUEST_KEY]
    if request.target is None or session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    is_complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    kept = list_kept(reporter) if is_complete else []
    if not publish(request, kept, reporter.write_line, ask_in_terminal(session.config)):
        session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED


def _check_selected(config: pytest.Config, names: Container[str | None]) -> None:
    specs = {name: spec for name, spec in config.stash[SUBJECT_KEY].items() if name in names}
    try:
        ways = ", or --attention sdpa; or choose others with -k"
        attentions = config.option.attention
        check_selected(config.option.image_size, specs, attentions, measure_memory(), other_ways=ways)
        if PLACES_KEY not in config.stash:
            with warnings.catch_warnings(action="ignore", category=ConversionWarning):
                check_checkpoint(config.stash[REQUEST_KEY], specs)
            check_places(config.stash[REQUEST_KEY], specs)
            config.stash[PLACES_KEY] = True
    except ConversionError as error:
        raise pytest.UsageError(str(error)) from error


def _mark(name: str, request: Request) -> object:
    """Keep tests of one backbone on one worker of pytest-xdist, and slow variants apart for ``-m "not slow"``."""
    variant = choose_row(name, request)
    marks = [pytest.mark.xdist_group(variant.backbone if variant else name)]
    return pytest.param(name, marks=marks + ([pytest.mark.slow] if variant and variant.slow else []))
