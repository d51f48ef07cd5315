"""The workflows run what the pages say, on every variant, and end in one job that needs all others."""

import configparser
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.mark.expression import Expression  # what -k is evaluated by; pytest has no public way to it

from conversion.families.variants import VARIANTS

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "ci.md")
OURS = re.compile(r"\b(pytest|tox|ruff|mypy|pip|actionlint|conversion)\b")
DINOV2 = {name for name, variant in VARIANTS.items() if variant.family == "dinov2"}
JOBS_BY_VARIANT = {  # workflow and job, to the variants that its groups have to cover
    ("tests", "variants"): set(VARIANTS),
    ("gpu", "parity"): set(VARIANTS),
    ("gpu", "flash"): DINOV2,  # transformers has no flash attention for the other family
    ("weekly", "verdicts"): set(VARIANTS),
}


def read_jobs(workflow: str) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOWS[workflow].read_text(encoding="utf-8"))["jobs"]
    return jobs


def read_matrix(job: dict[str, Any]) -> dict[str, Any]:
    matrix: dict[str, Any] = job.get("strategy", {}).get("matrix", {})
    return matrix


def list_documented(pages: list[str]) -> set[str]:
    """Every command in a block of code, without the remark behind it; not in one of Python or YAML."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    blocks = [block for page in pages for language, block in fenced.findall(page) if not language]
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return {command for line in lines for command in split_commands(line)}


def split_commands(text: str) -> list[str]:
    return [command.strip() for line in text.splitlines() for command in line.split("&&") if command.strip()]


def list_commands(job: dict[str, Any]) -> list[str]:
    """The commands of ours that a job runs, with capitals for what its matrix fills in."""
    commands = [command for step in job["steps"] for command in split_commands(step.get("run", ""))]
    return [
        re.sub(r"\$\{\{ matrix\.(?:\w+\.)?(\w+) \}\}", lambda match: match[1].upper(), command)
        for command in commands
        if OURS.search(command)
    ]


def select(expression: str) -> set[str]:
    """The variants that ``-k`` selects."""
    compiled = Expression.compile(expression)
    return {variant for variant in VARIANTS if compiled.evaluate(lambda name, variant=variant, **_: name in variant)}


def list_environments(env_list: str) -> list[str]:
    """The names that ``env_list`` stands for: braces are multiplied out."""
    names = re.split(r"[,\s]+(?![^{]*\})", env_list.strip())
    parts = [[part.split(",") for part in re.split(r"[{}]", name)] for name in names if name]
    return ["".join(map(str.strip, choice)) for pieces in parts for choice in product(*pieces)]


@pytest.fixture(params=WORKFLOWS)
def workflow(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_commands_stand_in_the_pages(workflow: str) -> None:
    commands = [command for job in read_jobs(workflow).values() for command in list_commands(job)]
    assert len(commands) > 2
    documented = list_documented([page.read_text(encoding="utf-8") for page in PAGES])
    assert [command for command in commands if command not in documented] == []


def test_a_command_with_another_option_does_not_stand_in_the_pages() -> None:
    step = {"run": 'cd x && pytest -k "${{ matrix.group.variants }}" --seed 1\necho pytests'}
    assert list_commands({"steps": [step, {"uses": "x"}]}) == ['pytest -k "VARIANTS" --seed 1']
    page = '```yaml\n- run: pytest\n```\nor\n```\npip install x && pytest -k "VARIANTS" # why\n```\n`mypy`\n'
    assert list_documented([page]) == {"pip install x", 'pytest -k "VARIANTS"'}


@pytest.mark.parametrize(("workflow", "job"), JOBS_BY_VARIANT)
def test_groups_cover_every_variant_once(workflow: str, job: str) -> None:
    groups = read_matrix(read_jobs(workflow)[job])["group"]
    selected = [variant for group in groups for variant in select(group["variants"])]
    assert sorted(selected) == sorted(JOBS_BY_VARIANT[workflow, job])
    assert len({group["name"] for group in groups}) == len(groups)  # the uploads are called by it


def test_every_job_with_groups_is_among_those_tested() -> None:
    found = {(name, job) for name in WORKFLOWS for job, body in read_jobs(name).items() if "group" in read_matrix(body)}
    assert found == set(JOBS_BY_VARIANT)


def test_a_selection_is_that_of_pytest() -> None:
    assert select("dinov2_vitg14 and not (reg or 1layer or dpt)") == {"dinov2_vitg14"}
    assert len(select("data2vec and ade20k or dinov2_vits14")) == 8


def test_tox_environments_are_those_of_tox() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    environments = [entry["environment"] for entry in read_matrix(read_jobs("tests")["tox"])["include"]]
    assert sorted(environments) == sorted(list_environments(config["tox"]["env_list"]))


def test_factors_of_tox_are_multiplied_out() -> None:
    assert list_environments("lint, py{311, 313}-transformers{4,5}\n  types") == [
        *("lint", "py311-transformers4", "py311-transformers5", "py313-transformers4", "py313-transformers5", "types")
    ]


def test_all_green_needs_all_others_to_have_succeeded(workflow: str) -> None:
    jobs = read_jobs(workflow)
    last = jobs.pop("all-green")
    assert set(last["needs"]) == set(jobs)
    assert last["if"] == "${{ always() }}"
    (step,) = last["steps"]
    assert step["run"] == "exit 1"
    if workflow == "gpu":  # where nobody asked for flash attention, its job is skipped
        assert "needs.flash.result != (inputs.flash-attention && 'success' || 'skipped')" in step["if"]
        assert all(f"needs.{name}.result != 'success' || " in step["if"] for name in jobs.keys() - {"flash"})
    else:
        for result in ("failure", "cancelled", "skipped"):
            assert f"contains(needs.*.result, '{result}')" in step["if"]


def test_workflows_are_bounded(workflow: str) -> None:
    content = yaml.safe_load(WORKFLOWS[workflow].read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"}
    assert "group" in content["concurrency"]
    for name, job in content["jobs"].items():
        assert job["timeout-minutes"] <= 180, name
        assert not read_matrix(job) or job["strategy"]["fail-fast"] is False, name
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/checkout@v1")), step


def test_strangers_do_not_reach_our_runners() -> None:
    content = yaml.safe_load(WORKFLOWS["gpu"].read_text(encoding="utf-8"))
    assert not any(event.startswith("pull_request") for event in content[True])  # YAML takes "on" for a truth value
