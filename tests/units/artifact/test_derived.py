"""What a card says and something else tells, too, is derived again; other files beside an artifact are foreign."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conversion.artifact.card import hash_file
from conversion.artifact.checks import check_card
from conversion.artifact.derived import find_false_checksums, find_false_entries
from conversion.artifact.reading import read_card
from conversion.artifact.verify import verify_artifact
from conversion.artifact.weights import INDEX
from conversion.errors import ArtifactError, CheckpointError
from conversion.families.target import transformers_major
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, PARITY_CARD, PREPROCESSOR
from tests.support.golden import read_golden
from tests.support.verified import Change, edit, find_input


@pytest.fixture
def artifact(made: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made["dinov2_tiny"], tmp_path / "tiny"))


def repeat_cell(card: dict[str, Any]) -> None:
    card["activations"].append(card["activations"][0])


def repeat_input(card: dict[str, Any]) -> None:
    card["activations"][0]["inputs"].append(card["activations"][0]["inputs"][0])


def claim_official_weights(card: dict[str, Any]) -> None:
    card["source"].update(weights="pretrained")


# what was done to a card, whose digest was renewed: what is said of it
CARDS: dict[str, tuple[Change, str]] = {
    "variant": (lambda card: card.update(variant="dinov2_vitg14"), "variant: dinov2_vitg14, by its spec dinov2_custom"),
    "architecture": (
        lambda card: card.update(architecture="Dinov2ForImageClassification"),
        "architecture: Dinov2ForImageClassification, by its spec Dinov2Model",
    ),
    "layout": (
        lambda card: card.update(layout=["transformers 3"]),
        "layout: transformers 3, by the keys of the weights",
    ),
    "dtype": (lambda card: card.update(dtype="float16"), "dtype: float16, of the weights float32"),
    "layout, one less": (
        lambda card: card["layout"].pop(),
        "by the keys of the weights transformers 4, transformers 5",
    ),
    "baked for a size": (lambda card: card.update(baked_image_size=224), "baked_image_size: 224, by its spec 70"),
    "keys renamed": (lambda card: card["keys"].update(renamed=7), "keys renamed: 7, of its spec"),
    "keys split": (lambda card: card["keys"].update(split=7), "keys split: 7, of its spec"),
    "a key dropped": (
        lambda card: card["keys"]["dropped"].update({"blocks.0.norm1.weight": "of no use"}),
        "keys dropped: blocks.0.norm1.weight: 'of no use', by the key map 'kept'",
    ),
    "tensors compared": (lambda card: card["tensors"].update(compared=7), "tensors compared: 7, of its spec"),
    "a tensor kept beside": (
        lambda card: card["tensors"].update(kept_beside=["lm_head.weight"]),
        f"tensors kept_beside: .'lm_head.weight'., in {LEFT_OUT} ..",
    ),
    "a cell twice": (repeat_cell, "cpu, float32, eager: given twice"),
    "an input twice": (repeat_input, "cpu, float32, eager, native: given twice"),
    "a deviation at the native size": (
        lambda card: find_input(card, "native").update(deviation="position-embeddings-offset"),
        r"deviation: position-embeddings-offset, which does not apply to an input \(1, 3, 70, 70\)",
    ),
    "what somebody told": (
        lambda card: card["told"]["num_attention_heads"].update(value=12),
        "told num_attention_heads: 12, by its spec 2",
    ),
    "official weights of no variant": (
        claim_official_weights,
        "pretrained weights; no official checkpoint of dinov2_custom is published",
    ),
    "synthetic weights of no seed": (
        lambda card: card["source"].update(weights="synthetic", seed=None),
        "source: synthetic weights with the seed None",
    ),
    "a seed of real weights": (
        lambda card: card["source"].update(seed=3),
        "source: checkpoint weights with the seed 3",
    ),
    "unknown weights from a file": (
        lambda card: card["source"].update(weights="unknown"),
        "source: unknown weights, from checkpoint",
    ),
}


@pytest.mark.parametrize("done", CARDS)
def test_an_entry_that_can_be_derived_is_derived(done: str, artifact: Path) -> None:
    change, message = CARDS[done]
    edit(artifact, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(artifact)


def name_official_files(card: dict[str, Any], variant: str, sha256: str) -> None:
    """As an official download is recorded."""
    files = [{"name": f"{variant}_pretrain.pth", "bytes": 1, "sha256": sha256}]
    card["source"].update(weights="pretrained", checkpoints={"checkpoint": {"files": files, "intake": []}})


def test_official_weights_have_official_files(artifact: Path, tmp_path: Path) -> None:
    card = read_card(artifact)
    row = VARIANTS["dinov2_vits14"]
    card["variant"] = row.name
    name_official_files(card, row.name, "a" * 64)
    family = read_golden("dinov2_tiny").family
    said = "\n".join(find_false_entries(card, family, family.spec_of(row)))
    assert "variant: " not in said
    assert "source: " not in said
    checksums = tmp_path / "checksums.json"
    assert list(find_false_checksums(card, checksums)) == []  # an installed package has none
    path = "dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
    checksums.write_text(json.dumps({path: {"bytes": 1, "sha256": "a" * 64}}))
    assert list(find_false_checksums(card, checksums)) == []
    checksums.write_text(json.dumps({path: {"bytes": 1, "sha256": "b" * 64}}))
    (problem,) = find_false_checksums(card, checksums)
    assert f"the checkpoint has SHA-256 {'a' * 64}, the official file on record {'b' * 64}" in problem
    checksums.write_text("{")
    with pytest.raises(CheckpointError, match=f"{checksums}: is not a file of checksums"):
        list(find_false_checksums(card, checksums))
    card["source"]["checkpoints"]["checkpoint"]["files"][0]["name"] = "mine.pth"
    said = "\n".join(find_false_entries(card, family, family.spec_of(row)))
    assert "the checkpoint is mine.pth, not dinov2_vits14_pretrain.pth" in said


@pytest.mark.parametrize(
    ("variant", "baked", "is_right"),
    [
        ("dinov2_vits14", 224, True),
        ("dinov2_custom", 224, True),  # of any native size before it was baked
        ("dinov2_vitb14", 224, False),
        ("dinov2_vits14", None, False),
        ("dinov2_custom", None, True),
    ],
)
def test_a_baked_model_keeps_the_name_that_it_had(
    variant: str, baked: int | None, is_right: bool, artifact: Path
) -> None:
    card, family = read_card(artifact), read_golden("dinov2_tiny").family
    spec = family.build_spec(**{**VARIANTS["dinov2_vits14"].spec, "image_size": 224})
    said = list(find_false_entries({**card, "variant": variant, "baked_image_size": baked}, family, spec))
    assert any(problem.startswith("variant: ") for problem in said) != is_right


@pytest.mark.parametrize("is_other", [False, True])
def test_of_another_major_version_deviations_are_not_judged(is_other: bool, artifact: Path) -> None:
    """It has others."""
    edit(artifact, CARDS["a deviation at the native size"][0])
    if is_other:
        other = "4.57.6" if transformers_major() > 4 else "5.0.0"
        edit(artifact, lambda card: card["versions"].update(transformers=other))
    with pytest.raises(ArtifactError, match="no point is said to be off by it") as raised:
        verify_artifact(artifact)
    assert ("which does not apply to an input" in str(raised.value)) != is_other


def test_a_model_of_one_size_is_not_baked(made: dict[str, Path], tmp_path: Path) -> None:
    artifact = Path(shutil.copytree(made["data2vec_vision_tiny_ade20k"], tmp_path / "tiny"))
    size = read_card(artifact)["spec"]["image_size"]
    edit(artifact, lambda card: card.update(baked_image_size=size))
    with pytest.raises(ArtifactError, match="a model of its spec has one size only"):
        verify_artifact(artifact)


def renew(artifact: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a settings file; as somebody would who knows of its hash and of the digest."""
    content = json.loads((artifact / name).read_text())
    change(content)
    (artifact / name).write_text(json.dumps(content))
    edit(artifact, lambda card: card["result"].update({name: hash_file(artifact / name)}))


@pytest.mark.parametrize(
    ("name", "field", "value", "said"),
    [
        (CONFIG, "drop_path_rate", 0.5, "config.json: drop_path_rate: 0.5, expected 0.0"),
        (CONFIG, "layer_norm_eps", 1e-5, "config.json describes another model than the card: "),
        (CONFIG, "architectures", None, r"config.json: architectures: None, expected \['Dinov2Model'\]"),
        (PREPROCESSOR, "resample", 2, "preprocessor_config.json: resample: 2, expected 3"),
        (PREPROCESSOR, "crop_size", {"height": 70, "width": 70}, "224 is what its card and its config say"),
        (PREPROCESSOR, "auto_map", {"AutoImageProcessor": "code.Mine"}, "code that comes with a model is not run"),
        (PREPROCESSOR, "image_processor_type", "Moon", "preprocessor_config.json: is not what transformers reads"),
    ],
)
def test_settings_are_compared_even_if_their_hash_is_renewed(
    name: str, field: str, value: object, said: str, artifact: Path
) -> None:
    renew(artifact, name, lambda content: content.update({field: value}))
    with pytest.raises(ArtifactError, match=said):
        verify_artifact(artifact)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
def test_a_settings_file_that_is_no_json_is_one_error(name: str, artifact: Path) -> None:
    (artifact / name).write_text("{")
    edit(artifact, lambda card: card["result"].update({name: hash_file(artifact / name)}))
    with pytest.raises(ArtifactError, match=name):
        verify_artifact(artifact)


FOREIGN = (
    "model-00001-of-00002.safetensors",
    INDEX,
    "pytorch_model.bin",
    "adapter_config.json",
    "mine/model.safetensors",
    ".model.safetensors",
    ".mine/model.safetensors",
    ".mine/deeper/pytorch_model.bin",
    ".cache/huggingface/model.safetensors",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_weights_beside_the_weights_are_foreign(name: str, artifact: Path) -> None:
    (artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (artifact / name).write_bytes(b"weights")
    where = name if name.startswith(".") else name.partition("/")[0]
    with pytest.raises(ArtifactError, match=f"{where}: not of an artifact; a model may be loaded from it"):
        verify_artifact(artifact)


OF_A_DOWNLOAD = (
    ".gitattributes",
    ".gitignore",
    ".git/config",
    ".git/lfs/objects/model.bin",
    ".cache/huggingface/.gitignore",
    ".cache/huggingface/download/model.safetensors.metadata",
    ".cache/huggingface/download/model.safetensors.lock",
    ".DS_Store",
)


def test_what_a_download_leaves_is_not_foreign(artifact: Path) -> None:
    for name in OF_A_DOWNLOAD:
        (artifact / name).parent.mkdir(parents=True, exist_ok=True)
        (artifact / name).write_text("")
    verify_artifact(artifact)


@pytest.mark.parametrize("result", [[], ["config.json"], "config.json", None, 7])
def test_a_card_without_a_table_of_files_is_one_error(result: object, artifact: Path) -> None:
    card = json.loads((artifact / PARITY_CARD).read_text())
    (artifact / PARITY_CARD).write_text(json.dumps(card | {"result": result}))
    with pytest.raises(ArtifactError, match=r"its result is a JSON .*, not a table of files") as raised:
        check_card(artifact)
    assert raised.value.hint
    with pytest.raises(ArtifactError, match="is no verification card"):
        verify_artifact(artifact)


def test_a_file_that_may_not_be_read_is_one_problem(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path) -> str:
        raise PermissionError(13, "Permission denied", path.name)

    monkeypatch.setattr("conversion.artifact.checks.hash_file", forbid)
    with pytest.raises(ArtifactError, match="is not verified") as raised:
        verify_artifact(artifact)
    assert raised.value.problems == (f"cannot be read: [Errno 13] Permission denied: '{CONFIG}'",)


@pytest.mark.parametrize("name", ["notes.txt", "../elsewhere.txt"])
def test_a_file_that_no_model_is_loaded_from_is_not_of_the_card(name: str, artifact: Path) -> None:
    (artifact / name).write_text("mine")
    edit(artifact, lambda card: card["result"].update({name: hash_file(artifact / name)}))
    with pytest.raises(ArtifactError, match=f"{name}: the card lists it, and no model is loaded from it"):
        check_card(artifact)


@pytest.mark.parametrize("key", ["mine", "encoder.layer.0.attention.attention.query.weight"])
def test_a_foreign_key_in_what_was_left_out_is_one_error(key: str, artifact: Path) -> None:
    save_file({key: torch.zeros(2)}, artifact / LEFT_OUT)
    edit(artifact, lambda card: card["result"].update({LEFT_OUT: hash_file(artifact / LEFT_OUT)}))
    with pytest.raises(ArtifactError, match=rf"(?s){LEFT_OUT}: holds what no.*{key}: \(2,\), expected no"):
        verify_artifact(artifact)
