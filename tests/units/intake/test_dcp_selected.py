"""A model under a prefix in a folder of torch.distributed.checkpoint: said as of one file, and nothing else is read."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from conversion.errors import CheckpointError, ConversionWarning
from conversion.intake.checkpoint import Checkpoint, read_checkpoint
from conversion.intake.linear_head import read_linear_head
from tests.support.checkpoint_files import same, save
from tests.support.counted import count_read
from tests.support.golden import tiny
from tests.support.prefixed import HEAD, PREFIXED, put_under, shift

LARGE = {"decoder.0.weight": torch.ones(1000, 1000), "decoder.0.bias": torch.ones(1000)}


def save_distributed(content: dict[str, Any], folder: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):  # torch's own, that there is one process
        dcp.save(content, checkpoint_id=folder, no_dist=True)
    return folder


def read(path: Path, entry: str | None = None) -> tuple[Checkpoint, list[str]]:
    """A checkpoint, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = read_checkpoint(path, entry=entry)
    said = [str(each.message) for each in caught if each.category is ConversionWarning]
    return checkpoint, [text.removeprefix(f"{path}: ") for text in said]


def size_of(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize("name", PREFIXED)
def test_what_is_said_of_a_prefix_is_said_as_of_one_file(name: str, tmp_path: Path) -> None:
    content = {"model": PREFIXED[name]()}
    file, of_file = read(save(content, tmp_path / "file.pth"))
    folder, of_folder = read(save_distributed(content, tmp_path / "folder"))
    assert same(folder.state_dict, file.state_dict)
    assert of_folder == of_file
    assert folder.steps[1:] == file.steps[1:]  # the first says how it was opened


def test_nothing_outside_of_the_prefix_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = put_under("pretrained.", tiny()) | put_under("student_net.", shift(tiny())) | LARGE
    folder = save_distributed({"model": model}, tmp_path / "folder")
    count = count_read(folder, monkeypatch)
    checkpoint, said = read(folder)
    assert same(checkpoint.state_dict, tiny())
    metadata = (folder / ".metadata").stat().st_size
    assert count.size < metadata + 1.05 * size_of(tiny()) + 2000 * len(tiny())  # each tensor lies in an archive
    assert said == [
        "'pretrained.' taken, under which a whole model lies; "
        "not 'student_net.', which also holds a model (--entry to choose); "
        "left out, outside of it: 'decoder.' (2 tensors, as decoder.0.weight)"
    ]
    [opened] = [step.did for step in checkpoint.steps if step.name == "open"]
    assert f"read selectively: {len(tiny())} of {len(model)} tensors" in opened


def test_what_is_not_taken_need_not_be_there(tmp_path: Path) -> None:
    """As where the files that hold nothing else were not copied."""
    folder = save_distributed({"model": put_under("vit.", tiny()) | LARGE}, tmp_path / "folder")
    metadata = dcp.FileSystemReader(folder).read_metadata()
    for index, place in metadata.storage_data.items():
        if index.fqn.startswith("model.decoder"):
            place.relative_path = "__9_0.distcp"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    assert same(read(folder)[0].state_dict, tiny())


def test_models_under_two_names_are_compared_by_their_values(tmp_path: Path) -> None:
    one = put_under("a.", tiny()) | put_under("b.c.", tiny()) | HEAD
    checkpoint, said = read(save_distributed({"model": one}, tmp_path / "one"))
    assert same(checkpoint.state_dict, tiny())
    assert "'a.' taken" in said[0]
    assert "not 'b.c.', which also holds a model" in said[0]
    two = put_under("a.", tiny()) | put_under("b.c.", shift(tiny()))
    with pytest.raises(CheckpointError, match="nothing says which is meant") as raised:
        read(save_distributed({"model": two}, tmp_path / "two"))
    assert list(raised.value.problems) == ["--entry model.a", "--entry model.b.c"]
    assert same(read(tmp_path / "two", "model.b.c")[0].state_dict, shift(tiny()))


def test_a_model_that_is_not_whole_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = put_under("vit.", {key: tensor for key, tensor in tiny().items() if key != "norm.bias"})
    folder = save_distributed({"model": model | LARGE}, tmp_path / "folder")
    count = count_read(folder, monkeypatch)
    with pytest.raises(CheckpointError, match=r"under 'vit\.' is not whole.\n.*missing: vit\.norm\.bias"):
        read(folder)
    assert count.size <= (folder / ".metadata").stat().st_size


# what is no model that is converted, and what is said of it
FOREIGN = {
    "another family": (lambda: put_under("layers.0.", LARGE) | {"norm.weight": torch.ones(4)}, "no known family"),
    "MAE": (lambda: tiny() | LARGE | {"decoder_pos_embed": torch.ones(4)}, "a checkpoint of MAE's pretraining"),
    "transformers": (lambda: put_under("embeddings.", {"cls_token": torch.ones(1, 1, 4)}) | LARGE, "already"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_known_model_is_refused_before_anything_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, says = FOREIGN[name]
    folder = save_distributed({"model": make()}, tmp_path / "folder")
    count = count_read(folder, monkeypatch)
    with pytest.raises(CheckpointError, match=says):
        read(folder)
    assert count.size <= (folder / ".metadata").stat().st_size


def test_a_linear_head_is_read(tmp_path: Path) -> None:
    head = {"weight": torch.ones(3, 64), "bias": torch.ones(3)}
    folder = save_distributed({"model": head}, tmp_path / "folder")
    assert same(read_linear_head(folder, tiny()).state_dict, head)
