"""The parity suite as a pytest plugin: options, fixtures, header and closing table."""

import argparse
import os
import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.card import describe_versions
from conversion.artifact.weights import check_size
from conversion.errors import ConversionError, ConversionWarning
from conversion.families.base import Spec, list_settings
from conversion.families.external import AUTO
from conversion.families.labels import read_labels
from conversion.families.shapes import parse_count, parse_integer
from conversion.families.told import option_of
from conversion.families.variants import VARIANTS, find_variant
from conversion.intake.transformers_folder import is_transformers_folder
from conversion.suite import reporting
from conversion.suite.axes import (
    DTYPES,
    check_axes,
    check_checkpoint,
    check_image_size,
    check_selected,
    choose_variants,
    measure_memory,
    prepare_torch,
)
from conversion.suite.extent import choose_row
from conversion.suite.pool import Pool
from conversion.suite.progress import show_progress, silence_loading
from conversion.suite.publishing import ask_in_terminal, check_places, check_publisher, publish, refuse_pushes
from conversion.suite.rows import collect_rows, list_outcomes
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from conversion.suite.summary import list_kept, summarise
from conversion.suite.work import estimate_work

SUBJECT_KEY = pytest.StashKey[Mapping[str, Spec]]()
REQUEST_KEY = pytest.StashKey[Request]()
PLACES_KEY = pytest.StashKey[bool]()
"""The Hub was asked what lies where artifacts are to go: every worker says what was selected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "conversion and proof")
    group.addoption(
        "--weights",
        choices=("synthetic", "pretrained"),
        default="synthetic",
        help="seeded weights, no network; or the official downloads (default: synthetic)",
    )
    group.addoption("--mirror", metavar="URL", help="where to download from, in place of the official address")
    group.addoption(
        "--checkpoint", type=_path, metavar="PATH", help="verify and convert this: a file, a folder, 'run/*.rank_*.pth'"
    )
    group.addoption("--entry", metavar="NAME", help="of --checkpoint: the entry that holds the model")
    group.addoption(
        "--like", metavar="NAME", help="of --checkpoint: the official model that tells shapes of FSDP's flat parameters"
    )
    group.addoption("--linear-head", type=_path, metavar="PATH", help="the classifier file that goes with --checkpoint")
    group.addoption("--linear-head-entry", metavar="NAME", help="of several heads in that file: the one to take")
    group.addoption("--save-dtype", choices=DTYPES, metavar="NAME", help="cast the weights (default: their own dtype)")
    group.addoption(
        "--original",
        default=AUTO,
        metavar="PATH",
        help="whose code is the reference: bundled, hub, timm, or a clone of the authors' repository (timm for files "
        "that only timm writes, else bundled)",
    )
    for name, setting in list_settings().items():
        if setting.is_option:
            group.addoption(option_of(name), type=partial(_parse, setting.parse), help=setting.help)
    group.addoption("--labels", type=_path, metavar="PATH", help="class names: a name a line, or JSON")
    group.addoption("--device", action="append", metavar="NAME", help="axis of the matrix (default: those present)")
    group.addoption("--dtype", action="append", metavar="NAME", help="axis of the matrix (default: float32)")
    group.addoption("--attention", action="append", metavar="NAME", help="axis of the matrix (default: eager, sdpa)")
    group.addoption(
        "--image-size",
        type=partial(_parse, parse_integer),
        metavar="N",
        help="bake position embeddings for N x N pixels",
    )
    group.addoption(
        "--require-exact",
        action="store_true",
        default=os.environ.get("CI", "").lower() in ("true", "1"),
        help="close is not enough where exact is on record of this kind of processor (default: on if CI is set)",
    )
    group.addoption(
        "--all",
        action="store_true",
        dest="is_all",
        help="verify large variants whole, and try every fault and file; else what is not named by -k is shortened",
    )
    group.addoption("--save-artifacts", action="store_true", help="keep the converted models that passed")
    group.addoption(
        "--max-shard-size",
        type=partial(_parse, check_size),
        metavar="SIZE",
        help="write shards of at most this size, as 5GB (one file)",
    )
    group.addoption("--artifacts-dir", type=_path, default=Path("artifacts"), metavar="DIR", help="where (artifacts)")
    group.addoption("--name", dest="artifact_name", metavar="NAME", help="of its folder (the variant's)")
    group.addoption(
        "--parity-report", type=_path, metavar="FILE", help="write what was found as one HTML file, for people"
    )
    group.addoption(
        "--push-to-hub",
        metavar="NAMESPACE",
        help="publish what passed; with a slash and a name, there and not elsewhere",
    )
    group.addoption("--public", action="store_true", help="publish to everybody (to the namespace alone)")
    group.addoption("--yes", action="store_true", help="publish without asking")
    group.addoption(
        "--seed", type=partial(_parse, parse_count), default=0, metavar="N", help="of synthetic weights and inputs"
    )


def pytest_configure(config: pytest.Config) -> None:
    prepare_torch(*getattr(config, "workerinput", {}).get("place", (0, 1)))
    try:
        config.stash[REQUEST_KEY] = _read_request(config.option)
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
    for axis in ("device", "dtype", "attention"):
        if axis in metafunc.fixturenames:
            metafunc.parametrize(axis, metafunc.config.getoption(axis))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        _check_selected(config, {_subject_of(item) for item in items})
    # or one worker would begin with the longest when the others are done
    if hasattr(config, "workerinput"):
        request = config.stash[REQUEST_KEY]
        items.sort(key=lambda item: estimate_work(choose_row(_subject_of(item) or "", request)), reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    _check_selected(node.config, {found[1] for test in ids if (found := re.search(r"\[(\w+)", test))})


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """The variants under test."""
    silence_loading()
    tests: dict[str, list[pytest.Item]] = {}
    for item in request.session.items:
        if name := _subject_of(item):
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
    if request.target is None or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    is_complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    kept = list_kept(reporter) if is_complete else []
    if not publish(request, kept, reporter.write_line, ask_in_terminal(session.config)):
        session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED


def _path(text: str) -> Path:
    return Path(text).expanduser()  # behind an equals sign a shell leaves ~ as it is


def _parse(parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except (ValueError, ConversionError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _read_request(option: argparse.Namespace) -> Request:
    settings = {name: getattr(option, name) for name, setting in list_settings().items() if setting.is_option}
    return Request(
        keyword=option.keyword,
        is_all=option.is_all,
        seed=option.seed,
        weights=option.weights,
        mirror=option.mirror,
        checkpoint=option.checkpoint,
        variant=option.keyword if option.checkpoint and option.keyword in VARIANTS else None,
        entry=option.entry,
        like=option.like,
        linear_head=option.linear_head,
        linear_head_entry=option.linear_head_entry,
        save_dtype=getattr(torch, option.save_dtype) if option.save_dtype else None,
        labels=read_labels(option.labels) if option.labels else None,
        overrides={name: value for name, value in settings.items() if value is not None},
        image_size=option.image_size,
        max_shard_size=option.max_shard_size,
        original=option.original,
        artifacts=option.artifacts_dir if option.save_artifacts else None,
        name=option.artifact_name,
        require_exact=option.require_exact,
        report=option.parity_report,
        target=option.push_to_hub,
        public=option.public,
        is_agreed=option.yes,
    )


def _check_selected(config: pytest.Config, names: Container[str | None]) -> None:
    specs = {name: spec for name, spec in config.stash[SUBJECT_KEY].items() if name in names}
    try:
        ways = ", or --attention sdpa; or choose others with -k"
        attentions = config.option.attention
        check_selected(config.option.image_size, specs, attentions, measure_memory(), other_ways=ways)
        if PLACES_KEY not in config.stash:
            with warnings.catch_warnings(action="ignore", category=ConversionWarning):
                check_checkpoint(config.stash[REQUEST_KEY], specs)
            config.stash[PLACES_KEY] = check_places(config.stash[REQUEST_KEY], specs)
    except ConversionError as error:
        raise pytest.UsageError(str(error)) from error


def _subject_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)  # only parametrized tests have one
    return callspec.params.get("subject") if callspec else None


def _mark(name: str, request: Request) -> object:
    """Keep tests of one backbone on one worker of pytest-xdist, and slow variants apart for ``-m "not slow"``."""
    variant = choose_row(name, request)
    marks = [pytest.mark.xdist_group(variant.backbone if variant else name)]
    return pytest.param(name, marks=marks + ([pytest.mark.slow] if variant and variant.slow else []))
