"""The worked example of ``docs/adding-a-family.md``, taken at its word: its files, its rows, its commands."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conversion import VARIANTS
from conversion.intake.synthetic import write_synthetic_checkpoint
from tests.support.commands import build_environment, read_verdicts
from tests.support.forked import run_module, run_pytest
from tests.support.official_keys import RECORDED, describe_keys, render

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-a-family.md"
FILE = r"^`([^`\n]+)`[^\n]*\n\n```python\n(.*?)```$"
"""A path on a line of its own, what is said of it, and its content."""

SOURCES = ("conversion", "tests", "fixtures", "docs", ".ci", ".github")
OTHERS_LEFT_OUT = ("-k", "not dinov2 and not dinov3 and not beit and not data2vec and not depth_anything")
"""Of pytest: the other families' variants are tested where they are, in the project itself."""

TOP = ("conftest.py", "pyproject.toml", "README.md", "CONTRIBUTING.md", "tox.ini")


def list_blocks() -> Iterator[tuple[str, str]]:
    """Path and content of each piece of a file that the page gives."""
    yield from re.findall(FILE, PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, bytecode included, with what the page says in it."""
    root = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name)
    for name in TOP:
        shutil.copy(ROOT / name, root / name)
    for path, content in list_blocks():
        target = root / path
        target.parent.mkdir(exist_ok=True)
        before, table, after = target.read_text().partition("VARIANTS: Mapping") if target.exists() else ("", "", "")
        # rows stand above the table of all; else a piece of a file comes after the others
        target.write_text(before + "\n\n" * bool(before and not table) + content + "\n\n" * bool(table) + table + after)
    return root


def run_tests(checkout: Path, *options: str) -> tuple[int, str]:
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark", *options]
    return run_pytest(arguments, checkout, build_environment(checkout))


def test_a_family_takes_a_module_and_rows_of_at_most_two_hundred_lines() -> None:
    paths = list(dict.fromkeys(path for path, _ in list_blocks()))
    assert paths == ["conversion/families/deit.py", "conversion/families/variants.py"]
    assert sum(content.count("\n") for _, content in list_blocks()) <= 200


def test_its_command_verifies_the_new_family(checkout: Path) -> None:
    command = re.search(r"^```\npytest -k (\w+)\n```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert command
    code, output = run_tests(
        checkout, "tests/parity/test_parity.py", "-k", command[1], "--require-exact", "--save-artifacts"
    )
    assert code == 0, output
    assert read_verdicts(output)["eager"] == "exact"  # as the page says
    assert read_verdicts(output)["sdpa"] == "close"
    code, output = run_module("conversion", "verify", f"artifacts/{command[1]}", root=checkout)
    assert code == 0, output
    others = ("--dtype=float64", "--dtype=bfloat16", "--parity-report=report.html")
    code, output = run_tests(checkout, "tests/parity/test_parity.py", "-k", command[1], *others)
    assert code == 0, output
    assert "transformers does otherwise: softmax-in-float32" in output
    assert "No pictures" not in (checkout / "report.html").read_text()
    code, output = run_tests(checkout, "tests/parity/test_parity.py", "-k", command[1], "--image-size=448")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "cannot be baked" in output


def test_it_is_laid_out_as_the_others_are(checkout: Path) -> None:
    code, output = run_tests(checkout, "tests/project/test_imports.py")
    assert code == 0, output


def test_what_else_is_asked_for_is_asked_for_and_can_be_given(checkout: Path, tmp_path: Path) -> None:
    """Official keys, here of a file of the authors' format; the README and the workflows name what is missing.

    Four processes import the changed package, one for each command.
    """
    asking = (
        "tests/properties/test_key_map.py",
        "tests/project/test_readme.py",
        "tests/project/test_workflows.py",
        "-k",
        f"(key_map or name or cover) and {OTHERS_LEFT_OUT[1]}",
    )
    code, output = run_tests(checkout, *asking)
    assert code == pytest.ExitCode.TESTS_FAILED
    for test in ("official_key_is_mapped", "results_name_every_variant", "groups_cover_every_variant"):
        assert re.search(rf"^FAILED \S*{test}", output, flags=re.MULTILINE), output
    first, *others = ("deit_tiny", "deit_small", "deit_base")
    script = f"""
from pathlib import Path
from conversion import VARIANTS
from conversion.intake.synthetic import write_synthetic_checkpoint
from tests.support.official_keys import main
for name in {others}:
    main(name, str(write_synthetic_checkpoint(VARIANTS[name], Path({str(tmp_path)!r}), 0)["checkpoint"]))
print(write_synthetic_checkpoint(VARIANTS[{first!r}], Path({str(tmp_path)!r}), 0)["checkpoint"])
"""
    (checkout / "write_files.py").write_text(script)
    code, file = run_module("write_files", root=checkout)
    assert code == 0, file
    code, output = run_module("tests.support.official_keys", first, file.strip(), root=checkout)
    assert code == 0, output
    code, output = run_tests(checkout, "tests/properties/test_key_map.py", *OTHERS_LEFT_OUT)
    assert code == 0, output


def test_recorded_keys_are_those_of_the_file(tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert render(recorded) == RECORDED.read_text(encoding="utf-8")
    file = write_synthetic_checkpoint(VARIANTS["dinov2_vits14_reg"], tmp_path, 0)["checkpoint"]
    described = describe_keys(torch.load(file, weights_only=True, mmap=True), 12)
    assert described == recorded["dinov2_vits14_reg"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"blocks.1.w": torch.ones(3)}, "of another shape"), ({"blocks.1.w": None}, "not in every block: blocks.1.w")],
)
def test_blocks_that_are_not_alike_are_not_recorded_as_one(changed: dict[str, torch.Tensor], message: str) -> None:
    tensors = {"blocks.0.w": torch.ones(2), "blocks.1.w": torch.ones(2)} | changed
    with pytest.raises(ValueError, match=message):
        describe_keys({key: tensor for key, tensor in tensors.items() if tensor is not None}, 2)
