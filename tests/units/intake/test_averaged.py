"""Checkpoints with a moving average beside the model, as the pretraining of Data2Vec-Vision writes them."""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import conversion
from conversion import VARIANTS, Conversion
from conversion.errors import KeyMapError
from conversion.families.base import load_family
from conversion.families.beit_architecture.original import index_offsets
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.intake.synthetic import draw_state_dict
from conversion.intake.unwrapping import unwrap
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.derived import is_truncated
from conversion.state_dicts.folder import PARITY_CARD
from tests.support.checkpoint_files import same
from tests.support.commands import RESTORING, check_artifact, left_over
from tests.support.golden import NORMALISATION, list_options, read_golden

FAMILY = load_family("data2vec_vision")
INDEX = "rel_pos_bias.relative_position_index"
NARROW = Data2VecVisionSpec(
    embed_dim=32, depth=1, num_heads=2, hidden_dim=128, patch_size=16, image_size=224, task="backbone",
    shared_position_bias=True, mask_token=True,
)  # fmt: skip
"""As wide as a test needs; with the window of the official models, on which the damage depends."""


def train(spec: Any = NARROW) -> dict[str, dict[str, Tensor]]:
    """Three updates of timm's moving average, which the authors' code uses: the model and its average."""
    from timm.utils import ModelEma, get_state_dict  # here, since it takes long to import

    model = FAMILY.load_original(spec, draw_state_dict(FAMILY, spec, "trained", 0))
    average = ModelEma(model, decay=0.9999)
    for _ in range(3):
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.02)
        average.update(model)
    return {"model": model.state_dict(), "model_ema": get_state_dict(average)}


def write(folder: Path, content: dict[str, Any]) -> Path:
    """A file as ``run_cyclical.py`` leaves it."""
    beside = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 799, "scaler": {"scale": 65536.0}}
    path = folder / "checkpoint-799.pth"
    torch.save({**content, **beside, "args": argparse.Namespace(ema_decay=0.9999, output_dir=Path("/run"))}, path)
    return path


def read(path: Path, entry: str | None) -> tuple[Conversion, dict[str, str], list[str]]:
    """The conversion of a file, what its intake did, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = conversion.read_checkpoint(path, entry=entry)
        out = conversion.convert(checkpoint.state_dict, **NORMALISATION)
    return out, {step.name: step.did for step in checkpoint.steps}, [str(each.message) for each in caught]


def test_a_pretraining_file_gives_the_official_answer_whoever_asks(tmp_path: Path) -> None:
    trained = train()
    path = write(tmp_path, trained)
    out, steps, warned = read(path, None)
    official, _, _ = read(path, VARIANTS["data2vec_vision_base"].entry)  # as --weights pretrained reads it
    assert same(out.state_dict, official.state_dict)
    assert same(out.source, {key: tensor for key, tensor in trained["model"].items() if key in out.source})
    assert steps["unwrap"].startswith("entry ['model'] taken; not 'model_ema', which also holds a model (--entry")
    assert any("not 'model_ema'" in text for text in warned)
    assert not out.notes
    assert not out.recomputed


def test_the_average_is_there_by_its_name_and_its_damaged_index_is_computed_again(tmp_path: Path) -> None:
    trained = train()
    damaged = trained["model_ema"][INDEX]
    assert int((damaged != index_offsets(14)).sum()) == 7462
    out, steps, warned = read(write(tmp_path, trained), "model_ema")
    assert steps["unwrap"].startswith("entry ['model_ema'] taken")
    note = f"{INDEX}: 7,462 of 38,809 entries truncated by averaging; computed again"
    assert out.notes == (note,)
    assert warned == [f"data2vec_vision_custom: {note}."]
    assert out.recomputed == (INDEX,)
    assert same(out.source, {key: tensor for key, tensor in trained["model_ema"].items() if key in out.source})
    restored = conversion.restore(out.state_dict, out.config, dropped=out.left_out)
    assert is_bit_equal(restored[INDEX], index_offsets(14))


def test_the_index_of_every_block_is_said_once() -> None:
    classifier = read_golden("data2vec_vision_tiny_ft1k")
    averaged = dict(classifier.recorded)
    for key in averaged:
        if key.endswith("relative_position_index"):
            averaged[key] = (averaged[key] - 1).clamp(min=0)
    with pytest.warns(UserWarning, match="truncated by averaging"):
        out = conversion.convert(averaged, **NORMALISATION)
    assert len(out.recomputed) > 1
    assert f"and {len(out.recomputed) - 1} more: " in out.notes[-1]


def test_every_official_row_takes_an_entry_that_the_family_takes_by_default() -> None:
    rows = [row for row in VARIANTS.values() if row.family == FAMILY.name and row.is_published]
    assert {row.entry for row in rows} == set(FAMILY.training.default_entries)


OTHER = {"unrelated.weight": torch.zeros(3)}


def test_the_family_is_asked_whose_models_they_are() -> None:
    beit, dino = read_golden("data2vec_vision_tiny").recorded, read_golden("dinov2_tiny").recorded
    wrapped = {f"module.{key}": tensor for key, tensor in beit.items()}
    cases = {
        ("model", "model_ema"): ({"model_ema": wrapped, "model": wrapped}, {"model_ema": {"ema": beit}, "model": beit}),
        ("module", "model_ema"): ({"module": beit, "model_ema": beit},),
        ("model", "module"): ({"module": beit, "model": beit},),
        ("model_ema", "model"): ({"model": dino, "model_ema": dino}, {"model": OTHER, "model_ema": beit}),
        ("teacher", "student"): ({"student": beit, "teacher": beit}, {"student": dino, "teacher": dino}),
    }
    for (taken, left), contents in cases.items():
        for content in contents:
            unwrapped = unwrap(content)
            assert unwrapped.path[0] == taken
            assert unwrapped.choice.startswith(
                f"entry {''.join(f'[{each!r}]' for each in unwrapped.path)} taken; not {left!r}"
            )
            assert unwrapped.is_chosen


DAMAGES = {
    "in another order": lambda index: index.T,
    "upside down": lambda index: index.flip(0),
    "counted from one": lambda index: index + 1,
    "below zero": lambda index: index - 1,
    "half of each": lambda index: index // 2,
    "in floating point": lambda index: (index - 1).clamp(min=0).float(),
    "in bytes": lambda index: (index - 1).clamp(min=0, max=255).to(torch.uint8),
    "of another window": lambda _: index_offsets(13),
    "sparse": lambda index: (index - 1).clamp(min=0).to_sparse(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_is_another_is_refused_with_the_way_out(damage: str) -> None:
    state_dict = draw_state_dict(FAMILY, NARROW, "trained", 0)
    state_dict[INDEX] = DAMAGES[damage](state_dict[INDEX])
    with pytest.raises(KeyMapError, match=r"(?s)relative_position_index: .*--entry model"):
        conversion.convert(state_dict)


@pytest.mark.parametrize("window", [5, 14, 24, 32])
@pytest.mark.parametrize("decay", [0.9, 0.996, 0.9999, 0.99999])
def test_what_averaging_leaves_is_known_after_any_number_of_updates(window: int, decay: float) -> None:
    whole = index_offsets(window)
    average = whole.clone()
    for _ in range(20):
        average.copy_(average * decay + (1.0 - decay) * whole)
        assert is_truncated(whole, average)


@pytest.mark.parametrize("entry", ["model", "model_ema"])
def test_either_is_verified_and_comes_back_by_one_command(entry: str, tmp_path: Path) -> None:
    spec: Any = read_golden("data2vec_vision_tiny").spec
    write(tmp_path, train(spec))
    chosen = () if entry == "model" else ("--entry", entry)
    told = list_options("data2vec_vision_tiny")
    options = ("--checkpoint", "checkpoint-799.pth", RESTORING, "-k", "test_parity or test_restore", *chosen, *told)
    check_artifact(tmp_path, options, rf"\['{entry}'\] taken")
    card = json.loads((tmp_path / "artifacts" / left_over(tmp_path)[0] / PARITY_CARD).read_text())
    assert any("truncated by averaging" in note for note in card["notes"]) == (entry == "model_ema")
