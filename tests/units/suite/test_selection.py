"""A run that names a variant runs what verifies it; any other run, and any path, is taken as pytest takes it."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conversion.families.variants import VARIANTS
from conversion.suite.selection import (
    FOLDER,
    is_narrowed,
    is_unselected,
    list_twins,
    names_variants,
    pytest_configure_node,
)
from conversion.suite.settings import Request
from tests.support.commands import ROOT, build_environment
from tests.support.forked import run_pytest
from tests.support.golden import ARCHITECTURES

IMPORTED = """
import sys
def pytest_unconfigure():
    print("FOLDERS:", *sorted({name.split(".")[1] for name in sys.modules if name.startswith("tests.")}))
"""

DOING_NOTHING = """
def pytest_pyfunc_call():
    return True
"""


def run_here(tmp_path: Path, *options: str, plugin: str = "") -> tuple[int, list[str], str]:
    """Run pytest in the checkout, with its own configuration.

    Returns:
        its exit status, the ids that it wrote, and all that it wrote.
    """
    (tmp_path / "imported.py").write_text(IMPORTED + plugin)
    arguments = ["-p", "imported", "-p", "no:cacheprovider", "-p", "no:benchmark", *options]
    code, output = run_pytest(arguments, ROOT, build_environment(tmp_path, ROOT))
    return code, [line for line in output.splitlines() if line.startswith("tests/")], output


@pytest.mark.parametrize("keyword", ["dinov2_vitg14_reg", "VITG14-", "vitg14 and not (reg or 1layer)", "ade20k"])
def test_an_expression_names_variants_by_words_of_their_names(keyword: str) -> None:
    assert names_variants(keyword)


@pytest.mark.parametrize("keyword", ["qkv", "layer", "s14", "test_restore", "not vitg14", "dinov2_custom", "-", ""])
def test_an_expression_without_such_words_names_none(keyword: str) -> None:
    assert not names_variants(keyword)


@pytest.mark.parametrize("keyword", ["dinov2_vits15", "dinov2_vitl41", "dinov2_vits14_", "data2vec_vision_bse"])
def test_a_variant_s_name_with_a_letter_wrong_is_meant_as_one(keyword: str) -> None:
    assert names_variants(keyword)


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_a_recorded_model_s_name_is_not(model: str) -> None:
    assert not names_variants(model)


def make_config(keyword: str = "", source: str = "TESTPATHS", **others: Any) -> Any:
    option = SimpleNamespace(keyword=keyword, checkpoint=others.pop("checkpoint", None))
    return SimpleNamespace(option=option, args_source=pytest.Config.ArgsSource[source], **others)


def test_a_run_is_narrowed_where_a_variant_is_named_and_no_path() -> None:
    assert is_narrowed(make_config("dinov2_vits14"))
    assert is_narrowed(make_config(checkpoint=Path("tiny.pth")))
    assert not is_narrowed(make_config("qkv"))
    assert not is_narrowed(make_config("dinov2_vits14", "ARGS"))
    assert not is_narrowed(make_config("dinov2_vits14", "INVOCATION_DIR"))  # started in tests/units, say
    assert not is_narrowed(make_config(checkpoint=Path("tiny.pth"), source="ARGS"))


def test_a_worker_does_as_its_controller() -> None:
    for config in (make_config("dinov2_vits14"), make_config("dinov2_vits14", "ARGS")):
        node = SimpleNamespace(config=config, workerinput={})
        pytest_configure_node(node)
        worker = make_config("dinov2_vits14", "ARGS", workerinput=node.workerinput)  # as pytest-xdist starts it
        assert is_narrowed(worker) is is_narrowed(config)
        assert is_unselected(worker) is is_unselected(config)


def test_all_tests_are_collected_where_nothing_selects_any() -> None:
    assert is_unselected(make_config())
    assert not is_unselected(make_config("qkv"))
    assert not is_unselected(make_config("not vitg14"))
    assert not is_unselected(make_config(source="ARGS"))
    node = SimpleNamespace(config=make_config(), workerinput={})
    pytest_configure_node(node)
    assert is_unselected(make_config(source="ARGS", workerinput=node.workerinput))


def find_variants(ids: list[str]) -> set[str]:
    """The variants that tests of parity verify."""
    return {found[1] for test in ids if (found := re.search(r"::test_parity\[(\w+)-", test))}


def test_a_run_of_all_tests_verifies_the_same_model_once(tmp_path: Path) -> None:
    code, ids, output = run_here(tmp_path, "--collect-only", "-q")
    assert code == 0, output
    twins = set(list_twins(Request()))
    assert find_variants(ids) == VARIANTS.keys() - twins
    assert {"beit_base_patch16_224_pt22k_ft1k", "dinov3_vit7b16_sat493m"} <= twins
    assert not {"beit_base_patch16_224_pt22k_ft22k", "dinov2_vits14", "dinov3_vitl16_sat493m"} & twins
    assert list_twins(Request(is_all=True)) == []
    assert re.search(r"\b[1-9]\d* deselected", output)


def test_a_path_and_all_verify_each_by_itself(tmp_path: Path) -> None:
    for arguments in (("tests/parity/test_parity.py",), ("tests/parity/test_parity.py", "--all")):
        _, ids, output = run_here(tmp_path, "--collect-only", "-q", *arguments)
        assert find_variants(ids) == VARIANTS.keys(), output


def test_a_named_variant_is_verified_and_nothing_else_is_imported(tmp_path: Path) -> None:
    code, ids, output = run_here(tmp_path, "--collect-only", "-qk", "dinov2_vits14_reg_1layer")
    assert code == 0, output
    cells = [f"tests/parity/test_parity.py::test_parity[dinov2_vits14_reg_1layer-cpu-float32-{attention}]"
             for attention in ("eager", "sdpa")]  # fmt: skip
    assert ids == [*cells, "tests/parity/test_restore.py::test_restore[dinov2_vits14_reg_1layer]"]
    (folders,) = [line for line in output.splitlines() if line.startswith("FOLDERS:")]
    assert "parity" in folders
    assert "mutation" not in folders
    assert "properties" not in folders


def test_tests_beside_them_that_verify_no_variant_are_left_out(tmp_path: Path) -> None:
    """``test_a_restored_file_loads_strictly[dinov2_tiny]`` lies in the same file."""
    _, ids, _ = run_here(tmp_path, "--collect-only", "-qk", "dinov2 and not vit")
    assert ids == []


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_run_with_workers_does_the_same(workers: tuple[str, ...], tmp_path: Path) -> None:
    code, _, output = run_here(tmp_path, *workers, "-vk", "dinov2_vits14_reg_1layer", plugin=DOING_NOTHING)
    assert code == 0, output
    assert "parity: -k is about variants: only what verifies them is run; for other tests give their path" in output
    assert "3 passed" in output
    assert "test_every_variant_is_recognised" not in output


def test_a_path_is_respected(tmp_path: Path) -> None:
    _, ids, output = run_here(tmp_path, "--collect-only", "-qk", "dinov2_vits14", "tests/units/report")
    assert len(ids) == 4
    assert all("tests/units/report/test_baseline.py::" in test for test in ids), output


def test_an_expression_without_a_variant_selects_from_all_tests(tmp_path: Path) -> None:
    _, ids, output = run_here(tmp_path, "--collect-only", "-qk", "test_sizes_are_for_people or a_head_of_another")
    assert ids == [
        "tests/parity/test_restore.py::test_a_head_of_another_vocabulary_is_no_loss",
        "tests/units/suite/test_progress.py::test_sizes_are_for_people",
    ], output


def test_another_test_of_that_name_is_told_how_to_be_run(tmp_path: Path) -> None:
    code, _, output = run_here(tmp_path, "-qk", "dinov2_vits14 and test_every_variant_is_recognised")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert 'pytest tests -k "dinov2_vits14 and test_every_variant_is_recognised"' in output


def test_all_tests_that_verify_a_variant_lie_in_one_folder() -> None:
    """Others would not be collected where a variant is named."""
    folders = {
        path.parent
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if "subject" in [argument.arg for argument in node.args.args]
    }
    assert folders == {ROOT.joinpath(*FOLDER)}
