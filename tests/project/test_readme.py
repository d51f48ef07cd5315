"""What the README says can be done as it says."""

import json
import re
from pathlib import Path

from conversion.families.base import families
from conversion.families.settings import list_settings, option_of
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import ERROR_RATIO, FLOOR_MAX_ULP, FLOOR_RMS_ULP, allow_for_chance
from conversion.report.render import KILL_MATRIX
from conversion.suite.options import OF_MODELS, OF_RUNS
from tests.mutation.failures import FAILURES
from tests.mutation.fault_lists import list_injections
from tests.mutation.file_faults import FILE_FAULTS
from tests.mutation.graph_faults import FOLDED, KINDS
from tests.mutation.injection import FaultyModel
from tests.mutation.kill_matrix import render_page
from tests.mutation.recorded_faults import RECORDED
from tests.support.examples import list_blocks
from tests.support.golden import ARCHITECTURES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read_page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    assert "pytest -n 2\n" in list_blocks(ROOT / "README.md", "")
    assert "\npytest -n 2\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_option_is_described() -> None:
    options = [*OF_MODELS, *OF_RUNS]
    assert len(options) > 8
    options += [option_of(name) for name, setting in list_settings().items() if setting.is_option]
    page = read_page("options")
    assert [option for option in options if f"`{option}" not in page] == []
    assert [
        option for option in re.findall(r"^\| `(--?[\w-]+)", README, re.MULTILINE) if f"`{option}" not in page
    ] == []


def test_the_results_name_every_variant() -> None:
    assert [name for name in VARIANTS if f"| {name} |" not in read_page("results")] == []


def test_every_deviation_has_its_row() -> None:
    rows = read_page("ledger")
    entries = {entry.name for family in families() for entry in family.ledger}
    assert [name for name in entries if f"`{name}`" not in rows] == []


def test_no_deviation_waits_for_its_figure() -> None:
    entries = [entry for family in families() for entry in family.ledger]
    assert [entry.name for entry in entries if entry.size.isupper() or not entry.size] == []


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    links = {(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))}
    absent = [f"{page.name}: {link}" for page, link in links if ":" not in link and not (page.parent / link).exists()]
    assert absent == []
    linked = {(page.parent / link).resolve() for page, link in links if page.name == "README.md"}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_the_tolerances_are_those_of_the_code() -> None:
    page = read_page("judging")
    rms, largest = allow_for_chance(10)
    assert f"of ten logits they are {rms:.1f} and {largest:.0f}" in page
    assert f"a_rms* and *a_max* are {ERROR_RATIO:g}, or what chance gives" in page
    assert f"{FLOOR_RMS_ULP} * eps * rms(r)" in page
    assert f"{FLOOR_MAX_ULP} * eps * max|r|" in page
    assert [allow_for_chance(count)[0] > ERROR_RATIO for count in (70, 80)] == [True, False]  # "below 75 elements"
    assert [allow_for_chance(count)[1] > ERROR_RATIO for count in (2500, 2700)] == [True, False]  # "below 2,600"


def test_the_kill_matrix_has_a_row_for_every_kind_of_fault() -> None:
    page = read_page("sensitivity")
    faulty_models = [
        FaultyModel.of(name) for name in ("dinov2_tiny_reg", "data2vec_vision_tiny_ade20k", "dinov3_tiny_swiglu")
    ]
    kinds = {injection.kind for faulty_model in faulty_models for injection in list_injections(faulty_model)}
    kinds |= {f"{fault.at}: {fault.kind}" for fault in FILE_FAULTS} | RECORDED.keys() | KINDS.keys() | {FOLDED}
    assert [kind for kind in kinds if f"| {kind} | " not in page] == []
    assert [model for model in ARCHITECTURES if model not in page] == []
    assert page == render_page(json.loads(KILL_MATRIX.read_text(encoding="utf-8")))  # what reports show


def test_the_documented_failures_are_those_that_are_printed() -> None:
    page = read_page("failures")
    sections = re.findall(r"^## ([^\n]*)\n\n```\n(.*?)\n```$", page, flags=re.MULTILINE | re.DOTALL)
    assert [title for title, _ in sections] == list(FAILURES)
    for _, message in sections:
        assert "explained  by " in message
        assert "none of the known faults" not in message
        assert len(message.splitlines()) < 40
        for row in ("difference", "local", "error", "original"):
            assert re.search(rf"^ +{row} +[\d.e-]+ +[\d.e-]+  ", message, flags=re.MULTILINE), row
