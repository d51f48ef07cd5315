"""Weights in shards: written where all is larger than asked for, published and read as one."""

import json
from pathlib import Path

import pytest
import torch

import conversion
from conversion.artifact.card import Provenance
from conversion.artifact.checks import check_card
from conversion.artifact.load import load_model
from conversion.artifact.stage import save_artifact, stage_artifact
from conversion.artifact.weights import INDEX, UNVERIFIED_INDEX, WEIGHTS, list_keys, list_weights, read_tensors
from conversion.errors import ArtifactError
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.folder import PARITY_CARD, read_config
from tests.mutation.file_faults import flip_a_byte
from tests.support.commands import ROOT, read_verdicts, run
from tests.support.golden import convert, list_options, read_golden

SIZE = "100KB"


def save_shards(target: Path, name: str = "dinov2_tiny") -> Path:
    save_artifact(convert(name), target, max_shard_size=SIZE)
    return target


def test_shards_hold_every_tensor_once_and_none_is_too_large(tmp_path: Path) -> None:
    artifact, out = save_shards(tmp_path / "tiny"), convert()
    shards = sorted(artifact.glob("model-*.safetensors"))
    assert len(shards) >= 3
    assert all(shard.stat().st_size <= 100_000 + 10_000 for shard in shards)
    assert list_weights(artifact) == shards
    assert not (artifact / WEIGHTS).exists()
    index = json.loads((artifact / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in out.state_dict.values())
    assert index["weight_map"].keys() == set(list_keys(artifact)) == out.state_dict.keys()
    tensors = read_tensors(artifact)
    assert all(is_bit_equal(tensor, tensors[key]) for key, tensor in out.state_dict.items())


@pytest.mark.parametrize("name", ["dinov2_tiny", "data2vec_vision_tiny_ade20k"])
def test_shards_load_and_go_back(name: str, tmp_path: Path) -> None:
    artifact, golden = save_shards(tmp_path / "tiny", name), read_golden(name)
    load_model(artifact)
    restored = conversion.restore(read_tensors(artifact), read_config(artifact))
    assert all(is_bit_equal(tensor, golden.state_dict[key]) for key, tensor in restored.items())
    (back,) = conversion.restore_checkpoint(artifact, tmp_path / "back.pth")
    assert torch.load(back).keys()


def test_what_fits_is_one_file(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny", max_shard_size="1GB")
    assert (tmp_path / "tiny" / WEIGHTS).exists()
    assert not (tmp_path / "tiny" / INDEX).exists()


def test_a_tensor_larger_than_the_size_has_a_shard_of_its_own(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny", max_shard_size="1KB")
    load_model(tmp_path / "tiny")


@pytest.mark.parametrize("size", ["5", "0GB", "-1GB", "GB", "", "much", "nanGB"])
def test_what_is_no_size_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is no size[\s\S]*500MB"):
        save_artifact(convert(), tmp_path / "tiny", max_shard_size=size)
    assert list(tmp_path.iterdir()) == []


def test_unpublished_shards_do_not_load(tmp_path: Path) -> None:
    from transformers import AutoModel

    with stage_artifact(convert(), tmp_path / "tiny", SIZE) as staged:
        assert (staged.directory / UNVERIFIED_INDEX).exists()
        assert not (staged.directory / INDEX).exists()
        with pytest.raises((OSError, ValueError)):
            AutoModel.from_pretrained(staged.directory, local_files_only=True)
        load_model(staged.directory)
    assert list(tmp_path.iterdir()) == []


def test_one_file_replaces_shards_and_the_other_way_round(tmp_path: Path) -> None:
    save_shards(tmp_path / "tiny")
    assert save_artifact(convert(), str(tmp_path / "tiny")) == tmp_path / "tiny"
    assert not list((tmp_path / "tiny").glob("model-*"))
    save_shards(tmp_path / "tiny")
    assert not (tmp_path / "tiny" / WEIGHTS).exists()
    check_card(str(tmp_path / "tiny"))


def test_the_card_speaks_of_every_shard(tmp_path: Path) -> None:
    artifact = save_shards(tmp_path / "tiny")
    shards = list_weights(artifact)
    recorded = json.loads((artifact / PARITY_CARD).read_text())["result"]
    assert recorded.keys() >= {INDEX, *(shard.name for shard in shards)}
    flip_a_byte(shards[1])
    with pytest.raises(ArtifactError, match=shards[1].name):
        check_card(artifact)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as an index"),
        ("[]", "cannot be read as an index"),
        ("[" * 100_000, "cannot be read as an index: RecursionError"),
        ('{"weight_map": {"a": 1}}', "cannot be read as an index"),
        ('{"weight_map": {}}', "names no files beside it"),
        ('{"weight_map": {"a": "../elsewhere.safetensors"}}', "names no files beside it"),
        ('{"weight_map": {"a": "\\ud800"}}', "cannot be read"),
        (
            '{"weight_map": {"a": "model-00009-of-00009.safetensors"}}',
            "model-00009-of-00009.safetensors: cannot be read",
        ),
    ],
)
def test_an_index_that_leads_nowhere_is_an_error(content: str, message: str, tmp_path: Path) -> None:
    artifact = save_shards(tmp_path / "tiny")
    (artifact / INDEX).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read_tensors(artifact)


def test_a_shard_that_was_written_to_is_not_published(tmp_path: Path) -> None:
    out = convert()
    with stage_artifact(out, tmp_path / "tiny", SIZE) as staged:
        flip_a_byte(list_weights(staged.directory)[0])
        with pytest.raises(
            ArtifactError,
            match=r"its files are not those that were compared[\s\S]*model-00001-of-\d+.safetensors: was changed",
        ):
            staged.publish(Provenance())
    assert list(tmp_path.iterdir()) == []


def test_a_command_writes_them_and_another_verifies_them(tmp_path: Path) -> None:
    golden = read_golden("dinov2_tiny_reg")
    torch.save(golden.backbone, tmp_path / "tiny.pth")
    options = ("--checkpoint=tiny.pth", *list_options("dinov2_tiny"), "--save-artifacts", f"--max-shard-size={SIZE}")
    code, output = run(tmp_path, *options)
    assert code == 0, output
    assert (tmp_path / "artifacts" / "dinov2_custom" / INDEX).exists()
    code, output = run(
        tmp_path, "--checkpoint=artifacts/dinov2_custom", str(ROOT / "tests" / "parity" / "test_restore.py")
    )
    assert code == 0, output
    assert set(read_verdicts(output).values()) == {"consistent with itself"}
