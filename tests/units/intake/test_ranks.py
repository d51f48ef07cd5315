"""Sharded training runs: rank files that torch itself wrote, put together again; or refused with what to do."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import conversion
from conversion.errors import CheckpointError
from conversion.intake.checkpoint import load_checkpoint, read_checkpoint
from conversion.intake.ranks import merge_ranks
from conversion.intake.unpickling import StandInTensor
from tests.support.checkpoint_files import same
from tests.support.commands import check_artifact
from tests.support.corpus.making import cut_in_two, write_ranks
from tests.support.golden import NUM_HEADS, list_options, read_golden, tiny
from tests.support.processes import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")  # or every worker would start the processes that save

KINDS = ("fully_shard", "SHARDED_STATE_DICT", "LOCAL_STATE_DICT")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of one training run saved, each its part, in every way that FSDP has."""
    folder = tmp_path_factory.mktemp("run")
    run_ranks(2, "tests.support.sharded_run", str(folder), *KINDS, "otherwise")
    return folder


@pytest.mark.parametrize("kind", ["fully_shard", "SHARDED_STATE_DICT"])
@pytest.mark.parametrize("given", ["", "model_*.rank_*.pth"])
def test_what_torch_cut_is_put_together(kind: str, given: str, run: Path) -> None:
    checkpoint = read_checkpoint(run / kind / given if given else run / kind)
    assert same(checkpoint.state_dict, tiny())
    steps = {step.name: step.did for step in checkpoint.steps}
    assert steps["merge"] == f"{len(tiny())} tensors of 2 ranks put together"
    assert "DTensor" in steps["open"] or "ShardedTensor" in steps["open"]
    assert [path.name for path in checkpoint.files] == ["model_0001.rank_0.pth", "model_0001.rank_1.pth"]
    conversion.convert(checkpoint.state_dict, num_attention_heads=NUM_HEADS)


def test_two_ranks_become_a_verified_artifact_by_one_command(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "fully_shard", tmp_path / "run")
    options = ("--checkpoint", "run/model_*.rank_*.pth", *list_options("dinov2_tiny"))
    check_artifact(tmp_path, options, "merge: 49 tensors of 2 ranks put together")


def test_a_lone_rank_file_is_refused_even_without_the_others_beside_it(run: Path, tmp_path: Path) -> None:
    for kind in KINDS:
        alone = tmp_path / f"{kind}.pth"
        alone.write_bytes((run / kind / "model_0001.rank_1.pth").read_bytes())
        with pytest.raises(CheckpointError, match="one rank file of a sharded run") as raised:
            load_checkpoint(alone)
        way_out = (
            "all rank files.*config.yaml"
            if kind == "LOCAL_STATE_DICT"
            else "all rank files.*as their folder or as a pattern"
        )
        assert re.search(way_out, raised.value.hint)


def test_a_missing_rank_is_noticed_by_what_the_others_say(run: Path, tmp_path: Path) -> None:
    for rank in range(2):  # twice the same piece
        content = (run / "fully_shard" / "model_0001.rank_0.pth").read_bytes()
        (tmp_path / f"model.rank_{rank}.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pieces make up \(\d+.*a rank file is missing"):
        load_checkpoint(tmp_path)


def test_what_is_cut_otherwise_is_refused_with_how_it_is_cut(run: Path) -> None:
    with pytest.raises(CheckpointError, match="rank files that do not make up one state dict") as raised:
        load_checkpoint(run / "otherwise")
    assert list(raised.value.problems) == [
        "sum: cut as Partial, which is not known here",
        "grid: cut along 2 dimensions of its mesh",
        "replica: not the same on every rank",
        "replicated piece: replicas that are not the same",
        "two pieces: 2 pieces on one rank",
        "piece of a grid: cut along 2 dimensions",
    ]
    assert raised.value.hint.startswith("Save the whole state dict where the run was made")


def test_a_sharded_tensor_of_an_unknown_kind_is_refused_and_has_no_values() -> None:
    piece = Tensor._make_wrapper_subclass(StandInTensor, (2, 2))
    with pytest.raises(CheckpointError, match=r"\n.*norm\.bias: a sharded tensor of an unknown kind"):
        merge_ranks([{"norm.bias": piece}, {"norm.bias": piece}])
    with pytest.raises(CheckpointError, match=r"has no values of its own \(aten\.add"):
        piece + 1


def test_plain_pieces_are_joined_along_the_first_dimension(tmp_path: Path) -> None:
    write_ranks(tmp_path, *cut_in_two(tiny()))
    assert same(load_checkpoint(tmp_path), tiny())
    constant = tiny() | {"norm.bias": torch.zeros(32)}  # both halves are the same, and still halves
    for path in tmp_path.iterdir():
        path.unlink()
    write_ranks(tmp_path, *cut_in_two(constant))
    assert same(load_checkpoint(tmp_path), constant)


def test_what_every_rank_has_whole_is_taken_once() -> None:
    merged, _ = merge_ranks([tiny(), tiny(), tiny()])
    assert same(merged, tiny())


def test_what_one_rank_has_alone_is_taken_from_it() -> None:
    halves: list[dict[str, Tensor]] = [{}, {}]
    for index, (key, tensor) in enumerate(tiny().items()):
        halves[index % 2][key] = tensor
    assert same(merge_ranks(halves)[0], tiny())


def test_ten_ranks_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    whole = {"a": torch.arange(22.0)}
    write_ranks(tmp_path, *({"a": part.clone()} for part in whole["a"].split(2)))
    assert same(load_checkpoint(tmp_path), whole)


def test_a_file_of_deepspeeds_is_no_rank_file_for_its_name(tmp_path: Path) -> None:
    golden = read_golden("data2vec_vision_tiny_ft1k")
    torch.save({"module": golden.backbone}, tmp_path / "mp_rank_00_model_states.pt")
    torch.save({"optimizer_state_dict": {}}, tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert same(load_checkpoint(tmp_path / "mp_rank_00_model_states.pt"), golden.backbone)
