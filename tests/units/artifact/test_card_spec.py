"""A card's spec is one of its family, or the card is refused before anything is computed from it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import conversion
from conversion.artifact.card_spec import find_spec_problems
from conversion.artifact.reading import read_card
from conversion.artifact.verify import verify_artifact
from conversion.cli.app import main
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import PARITY_CARD
from tests.support.golden import ARCHITECTURES, read_golden
from tests.support.verified import edit


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))


def as_json(spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return found


def test_every_official_and_recorded_model_has_a_spec_of_its_family() -> None:
    specs = [(load_family(row.family), load_family(row.family).spec_of(row)) for row in VARIANTS.values()]
    specs += [(read_golden(name).family, read_golden(name).spec) for name in ARCHITECTURES]
    for family, spec in specs:
        assert list(find_spec_problems(family.build_spec, as_json(spec))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embed_dim", "32"), ("embed_dim", 32.0), ("embed_dim", True), ("embed_dim", -32), ("embed_dim", 2**31),
        ("depth", 0), ("depth", 1001), ("patch_size", 0), ("num_heads", None), ("num_classes", -1),
        ("crop_pct", 0), ("crop_pct", "x"), ("layer_norm_eps", float("inf")), ("interpolate_offset", float("nan")),
        ("interpolation", {}), ("interpolation", "hamming"), ("ffn", []), ("ffn", "linear"), ("mask_token", 1),
        ("image_std", 2.5), ("image_std", [1, 1]), ("image_std", [0, 1, 1]), ("image_mean", [None, 0, 0]),
        ("image_mean", [float("nan"), 0, 0]),
        ("input_size", [[]]), ("mlp_ratio", {}), ("out_indices", True), ("out_indices", ["0"]), ("apply_layernorm", 0),
    ],
)  # fmt: skip
def test_a_value_of_no_model_is_named(name: str, value: object) -> None:
    golden = read_golden("dinov2_tiny")
    found = as_json(golden.spec) | {name: value}
    (problem,) = find_spec_problems(golden.family.build_spec, found)
    assert problem.startswith(f"spec {name}: {value!r}, ")


def test_a_model_without_registers_images_or_classes_has_a_spec_of_its_family(tmp_path: Path) -> None:
    """DINOv3 as it is trained without storage tokens, of which no official model is."""
    golden = read_golden("dinov3_tiny")
    state_dict = {key: tensor for key, tensor in golden.state_dict.items() if key != "storage_tokens"}
    out = conversion.convert(state_dict, **golden.overrides)
    assert out.spec.num_storage_tokens == 0
    assert list(find_spec_problems(golden.family.build_spec, as_json(out.spec))) == []
    bare = read_golden("depth_anything_v2_tiny")
    found = as_json(bare.spec) | {"max_depth": 0, "image_mean": None, "image_std": None, "input_size": None}
    assert list(find_spec_problems(bare.family.build_spec, found)) == []


def test_a_mean_may_be_negative_and_an_offset_zero() -> None:
    golden = read_golden("dinov2_tiny")
    found = as_json(golden.spec) | {"image_mean": [-1, 0, 0.5], "interpolate_offset": 0, "out_indices": [0]}
    assert list(find_spec_problems(golden.family.build_spec, found)) == []


def test_fields_that_are_not_there_or_not_known_are_named() -> None:
    golden = read_golden("dinov2_tiny")
    found = as_json(golden.spec) | {"colour": "blue", "HF_NAME": "x"}
    del found["depth"], found["mask_token"]  # the latter has a default
    assert list(find_spec_problems(golden.family.build_spec, found)) == [
        "spec depth: not there",
        "spec colour: no such field",
        "spec HF_NAME: no such field",
    ]


@pytest.mark.parametrize("command", ["verify {0}", "restore {0} back.pth", "report {0} -o out.html"])
def test_a_command_says_what_is_wrong_with_a_spec(
    command: str, artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(artifact.parent)
    edit(artifact, lambda card: card["spec"].update(crop_pct=0, image_std=2.5))
    assert main(command.format("tiny").split()) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "parity.json: its spec is of no dinov2 model." in said
    assert "spec crop_pct: 0, not a number above 0" in said
    assert "spec image_std: 2.5, not a list of 3" in said
    assert {path.name for path in artifact.parent.iterdir()} == {"tiny"}


def test_a_card_of_another_model_is_refused_before_anything_is_restored(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(artifact.parent)
    edit(artifact, lambda card: card["spec"].update(embed_dim=2**31 - 1))
    assert main(["restore", "tiny", "back.pth"]) == 2
    assert "another model than the card: embed_dim 32, in the card 2147483647" in capsys.readouterr().err
    assert {path.name for path in artifact.parent.iterdir()} == {"tiny"}


def test_a_family_of_which_the_spec_could_be_is_held_against_the_config(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["data2vec_vision_tiny_ade20k"], tmp_path / "tiny"))
    edit(folder, lambda card: card.update(family="beit"))
    with pytest.raises(ArtifactError, match=r"describes another family: beit, by config\.json data2vec_vision"):
        verify_artifact(folder)


def test_a_family_that_is_not_known_is_refused(artifact: Path) -> None:
    edit(artifact, lambda card: card.update(family="os"))
    with pytest.raises(ArtifactError, match="describes a model of a family that is not known: 'os'"):
        read_card(artifact)


def test_a_number_that_no_computation_takes_is_refused(artifact: Path) -> None:
    path = artifact / PARITY_CARD
    path.write_text(path.read_text().replace('"input_seed": 0', f'"input_seed": {10**400}'))
    with pytest.raises(ArtifactError, match="cannot be read: a whole number of 401 digits"):
        read_card(artifact)
