"""Folders of torch.distributed.checkpoint that four processes saved: the model alone is read, without running code."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

import conversion
from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.dcp_metadata import METADATA, read_metadata
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.metrics import is_bit_equal
from tests.support.checkpoint_files import same
from tests.support.commands import check_artifact
from tests.support.counted import count_read
from tests.support.dcp_run import KINDS, WIDE, WIDE_SPEC
from tests.support.forked import run_module
from tests.support.golden import NUM_HEADS, list_options, tiny
from tests.support.processes import run_ranks
from tests.support.read_measured import STATUS

pytestmark = pytest.mark.xdist_group("dcp")  # or every worker would have four processes save all of it

TINY = "dinov2_tiny"

# of ViT-S's size, with Adam: what else is in the folder, in sizes of the backbone
WIDE_RUNS = {"app": 1.9, "larger": 9}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What four processes saved of the golden model, in every way; and two of a model of ViT-S's size; with Adam.

    It takes 9 seconds, on two cores that four processes share.
    """
    folder = tmp_path_factory.mktemp("run")
    run_ranks(4, "tests.support.dcp_run", str(folder), *(f"{TINY}:{kind}" for kind in KINDS))
    run_ranks(2, "tests.support.dcp_run", str(folder), *(f"{WIDE}:{kind}" for kind in WIDE_RUNS))  # four take 4 GB
    yield folder
    shutil.rmtree(folder)  # hundreds of megabytes


# what is said of each way of saving: of entries taken, and of what was left
SAID = {
    "app": r"in app; entry \['model'\] taken; left out, .*: 'optim' .*; not read, no part of the model: 'epoch'",
    "model and optimizer": r"entry \['model'\] taken; left out, .*: 'optimizer' \(.*; left out, .*: 'iteration'",
    "beside": r"^not read, no part of the model: 'optimizer', 'train_state'",
    "teacher": r"\['teacher'\] taken; not 'student'.*; not read, projection head of the iBOT loss.*: ibot_head\.mlp",
    "larger": r"entry \['model'\] taken; left out, .*: 'optimizer' \(.*; left out, .*: 'iteration'",
    "replicated": "^$",
    "safetensors": r"entry \['model'\] taken; left out, no part of the model: 'iteration'",
    "two dimensions": r"entry \['model'\] taken",
}


@pytest.mark.filterwarnings("ignore:entry .'model'..'teacher'. taken", "ignore:'pretrained.' taken")
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_comes_out_whatever_it_was_saved_with(kind: str, run: Path) -> None:
    checkpoint = read_checkpoint(run / TINY / kind)
    assert same(checkpoint.state_dict, tiny())
    steps = {step.name: step.did for step in checkpoint.steps}
    assert f"read selectively: {len(tiny())} of " in steps["open"]
    assert re.search(SAID[kind], steps.get("unwrap", ""))
    assert {path.name for path in checkpoint.files} == {METADATA, *(f"__{rank}_0.distcp" for rank in range(4))}
    conversion.convert(checkpoint.state_dict, num_attention_heads=NUM_HEADS)


def test_the_entry_is_the_users_choice(run: Path) -> None:
    student = load_checkpoint(run / TINY / "teacher", entry="student")
    assert same(student, {key: tensor + 1 for key, tensor in tiny().items()})
    for entry in ("app.model", "model"):
        assert same(load_checkpoint(run / TINY / "app", entry=entry), tiny())
    with pytest.raises(CheckpointError, match=r"no entry 'teacher'.*\n.*there is: model"):
        load_checkpoint(run / TINY / "app", entry="teacher")


def test_the_metadata_file_stands_for_its_folder(run: Path) -> None:
    assert same(load_checkpoint(run / TINY / "app" / METADATA), tiny())


def test_keys_alone_tell_entries_where_the_metadata_do_not(tmp_path: Path) -> None:
    flat = {f"app.model.{key}": tensor for key, tensor in tiny().items()} | {"app.optim.state.a.exp_avg": torch.ones(2)}
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False)
    dcp.save(flat, checkpoint_id=tmp_path, planner=planner, no_dist=True)
    assert not read_metadata(tmp_path).paths
    assert same(load_checkpoint(tmp_path), tiny())


@pytest.mark.filterwarnings("ignore:'pretrained.' taken")
@pytest.mark.parametrize("kind", WIDE_RUNS)
def test_of_four_ranks_with_adam_little_but_the_backbone_is_read(
    kind: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, folder = count_read(run / WIDE / kind, monkeypatch), run / WIDE / kind
    state_dict = load_checkpoint(folder)
    family = load_family("dinov2")
    assert same(state_dict, draw_state_dict(family, family.build_spec(**WIDE_SPEC), WIDE, 0))
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    assert size < count.size <= 1.05 * size
    assert sum(path.stat().st_size for path in folder.iterdir()) > (1 + WIDE_RUNS[kind]) * size


@pytest.mark.skipif(not STATUS.is_file(), reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize("kind", WIDE_RUNS)
def test_of_four_ranks_with_adam_little_but_the_backbone_is_in_memory(kind: str, run: Path) -> None:
    code, output = run_module("tests.support.read_measured", str(run / TINY / kind), str(run / WIDE / kind))
    assert code == 0, output
    measured = json.loads(output)
    assert measured["size"] > 80e6
    assert measured["peak"] <= 1.2 * measured["size"]


def test_a_folder_becomes_a_verified_artifact_by_one_command(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / TINY / "app", tmp_path / "run")
    options = ("--checkpoint=run", *list_options("dinov2_tiny"))
    check_artifact(tmp_path, options, r"open: torch\.distributed\.checkpoint, read selectively: 49 of 196 tensors")


def test_mutated_metadata_never_run_and_never_crash(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / TINY / "app", tmp_path / "run")
    content, draw = (tmp_path / "run" / METADATA).read_bytes(), random.Random(0)
    refused = 0
    for _ in range(100):
        mutated = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        (tmp_path / "run" / METADATA).write_bytes(mutated)
        try:
            state_dict = load_checkpoint(tmp_path / "run")
        except CheckpointError:
            refused += 1
        else:  # what is read is as it was, whatever it is called then
            assert all(any(is_bit_equal(tensor, other) for other in tiny().values()) for tensor in state_dict.values())
    assert refused > 30
