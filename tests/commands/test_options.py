"""The command line, used as its users do: on a tiny checkpoint, in a process of its own."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from conversion.artifact.files import FILES
from conversion.artifact.load import load_model
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import PARITY_CARD
from tests.support.commands import (
    ALSO_BY_WORKERS,
    FAILING,
    HAS_WORKERS,
    SHRINKING,
    TINY,
    assert_refused,
    left_over,
    read_verdicts,
    run,
    start,
)


def test_a_checkpoint_is_verified_and_nothing_is_kept_unasked(here: Path) -> None:
    code, output = run(here, *TINY)
    assert code == 0, output
    assert read_verdicts(output)["sdpa"] == "exact"
    assert left_over(here) == []


def test_what_passed_is_kept_on_request(here: Path) -> None:
    code, output = run(here, *TINY, "--linear-head", "head.pth", "--save-artifacts", "--dtype", "float32")
    assert code == 0, output
    assert left_over(here) == ["dinov2_custom"]
    artifact = here / "artifacts" / "dinov2_custom"
    assert {path.name for path in artifact.iterdir()} == FILES
    assert type(load_model(artifact)).__name__ == "Dinov2ForImageClassification"
    card = json.loads((artifact / PARITY_CARD).read_text())
    assert [(cell["attention"], cell["verdict"]) for cell in card["activations"]] == [
        ("eager", "close"),
        ("sdpa", "exact"),
    ]
    read = card["source"]["checkpoints"].values()
    assert {file["name"] for checkpoint in read for file in checkpoint["files"]} == {"tiny.pth", "head.pth"}
    assert card["source"]["weights"] == "checkpoint"
    native = next(entry for entry in card["activations"][1]["inputs"] if entry["input"] == "native")
    assert native["points"][-4:] == ["norm", "pooled", "logits", "returned.logits"]  # names alone: they are exact
    assert all(isinstance(point, str) for point in native["points"])


def test_a_baked_artifact_is_exact_at_its_size(here: Path) -> None:
    code, output = run(here, *TINY, "--image-size", "42", "--save-artifacts", "--attention", "sdpa")
    assert code == 0, output
    assert read_verdicts(output) == {"sdpa": "exact"}
    assert "does otherwise" not in output
    assert load_model(here / "artifacts" / "dinov2_custom_42").config.image_size == 42


def test_a_failed_comparison_leaves_nothing(here: Path) -> None:
    code, output = run(here, *TINY, "--save-artifacts", plugin=FAILING)
    assert code == 1
    assert "first at block.0.norm1" in output
    assert "not the same model" in output
    assert "fed by     blocks.0.norm1.*" in output
    assert left_over(here) == []


def test_two_runs_keep_the_same_bytes(here: Path) -> None:
    for name in ("a", "b"):
        assert run(here, *TINY, "--save-artifacts", "--artifacts-dir", name)[0] == 0
    for file in FILES:
        first, second = (here / name / "dinov2_custom" / file for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes(), file


INTERRUPTIONS = {
    "a test that cannot be set up": """
import pytest
def pytest_runtest_setup(item):
    if "sdpa" in item.name:
        raise RuntimeError("no")
""",
    "Ctrl-C between two tests": """
def pytest_runtest_setup(item):
    if "sdpa" in item.name:
        raise KeyboardInterrupt
""",
    "Ctrl-C in a test": """
import conversion.suite.cells as cells
verify = cells.verify_cell
def interrupt(subject, cell):
    if cell[2] == "sdpa":
        raise KeyboardInterrupt
    return verify(subject, cell)
cells.verify_cell = interrupt
""",
    "a disk that is full in the end": """
import conversion.artifact.card
def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")
import conversion.artifact.stage
conversion.artifact.stage.render_model_card = fail
""",
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_what_did_not_pass_whole_is_not_kept(interruption: str, here: Path) -> None:
    code, output = run(here, *TINY, "--save-artifacts", plugin=INTERRUPTIONS[interruption])
    assert code in (1, 2), output
    assert read_verdicts(output) or "KeyboardInterrupt" in output
    assert left_over(here) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "nonsense"), "--device nonsense"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--dtype", "float8"), "--dtype float8: not one of float32"),
        (("--device", "meta"), "--device meta"),
        (("--attention", "telepathy"), "--attention telepathy"),
        (("--attention", "flash_attention_3"), "--attention flash_attention_3"),
        (("--max-shard-size", "5"), "'5' is no size"),
        (("--max-shard-size=-1GB",), "Give one with its unit"),
        (("--image-size", "100"), "--image-size 100: not a multiple of the patch size 14 or 16"),
        (("--out-indices", "3,x"), "--out-indices"),
        (("--labels", "absent.txt"), "absent.txt: there is no such file"),
        (("--num-attention-heads", "0"), "--num-attention-heads"),
        (("--checkpoint", "absent.pth"), "absent.pth: there is no such file"),
        (("--checkpoint", "disturb.py"), "disturb.py"),
        (("--linear-head", "head.pth"), "--linear-head"),
        (("--checkpoint", "head.pth"), "a linear head"),
        (("--checkpoint", "tiny.pth"), "num_attention_heads: give --num-attention-heads"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(options: tuple[str, ...], message: str, here: Path) -> None:
    assert_refused(here, (*options, "--save-artifacts"), message)
    assert left_over(here) == []


@ALSO_BY_WORKERS
def test_an_unknown_variant_is_refused_with_the_nearest(workers: tuple[str, ...], here: Path) -> None:
    code, output = run(here, "-k", "dinov2_vitl41", *workers)
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert re.search(r"Unknown variant 'dinov2_vitl41'.\n.*Did you mean .*dinov2_vitl14", output)


def test_a_checkpoint_of_another_variant_fails_and_names_both(here: Path) -> None:
    code, output = run(here, *TINY[:2], "-k", "dinov2_vits14", "--save-artifacts", "--attention", "sdpa")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"weights of another dinov2 model \(embed_dim 32, .*dinov2_vits14 was asked for", output)
    assert output.count("was asked for") == 1
    assert left_over(here) == []


def test_a_target_that_is_something_else_is_left_alone(here: Path) -> None:
    (here / "artifacts").mkdir()
    (here / "artifacts" / "dinov2_custom").write_text("mine")
    code, output = run(here, *TINY, "--save-artifacts", "--attention", "sdpa")
    assert code == 1
    assert "is not overwritten" in output
    assert (here / "artifacts" / "dinov2_custom").read_text() == "mine"


SLOW = """
import time, conversion.suite.cells as cells
def verify_never(subject, cell):
    _ = subject.staged
    time.sleep(600)
cells.verify_cell = verify_never
"""


def test_a_killed_run_leaves_nothing_that_loads_and_the_next_succeeds(here: Path) -> None:
    options = (*TINY, "--save-artifacts", "--attention", "sdpa")
    with start(here, *options, "-s", plugin=SLOW) as process:
        while not (here / "artifacts" / ".dinov2_custom.staging" / "model.unverified.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not list((here / "artifacts").rglob("model.safetensors"))
    assert run(here, *options)[0] == 0
    assert left_over(here) == ["dinov2_custom"]


def collect(here: Path, *options: str) -> list[str]:
    code, output = run(here, "--collect-only", *options)
    assert code == 0, output
    return re.findall(r"::(\S+\[\S+\])", output)


def test_images_of_another_size_than_the_one_baked_for_are_refused(here: Path) -> None:
    options = (*TINY, "--image-size", "56", "--input-size", "70")
    assert_refused(here, options, "Images of a model that is baked for 56 pixels have that size, not 70.")


def test_ids_name_variant_device_dtype_and_attention(here: Path) -> None:
    ids = collect(here, "--device", "cpu", "--dtype", "float32", "--dtype", "bfloat16")
    assert "test_parity[dinov2_vitl14-cpu-float32-sdpa]" in ids
    assert "test_parity[dinov2_vitg14_reg_1layer-cpu-bfloat16-eager]" in ids
    assert len(ids) == len(VARIANTS) * 2 * 2


def test_slow_variants_can_be_left_out(here: Path) -> None:
    ids = collect(here, "--all", "-m", "not slow")
    names = [found[1] for name in ids if (found := re.search(r"\[(\w+)-", name))]
    fast = [name for name, row in VARIANTS.items() if not row.slow]
    # the largest are shortened, and then fast, where they cannot be mapped
    assert sorted(name for name in names if "vit7b16" not in name) == sorted(fast * 2)
    assert not [name for name in ids if "vitg14" in name or "ade20k" in name]


@HAS_WORKERS
def test_a_variant_stays_on_one_worker(here: Path) -> None:
    code, output = run(here, "-n", "2", "-vv", "-k", "vits14 and not dpt", plugin=SHRINKING)
    assert code == 0, output
    workers = dict.fromkeys(re.findall(r"\[(gw\d)\].*PASSED.*\[(dinov2_\w+?)[-\]]", output))
    ends = ("", "_1layer", "_reg", "_reg_1layer")
    assert len(workers) == len(ends)
    assert {variant for _, variant in workers} == {f"dinov2_vits14{end}" for end in ends}
