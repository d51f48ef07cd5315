"""What is read of a transformers folder, and what is said of one that cannot be read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conversion.errors import CheckpointError
from conversion.families.base import load_family
from conversion.state_dicts.folder import (
    AGAIN,
    LEFT_OUT,
    describe_unreadable,
    parse_json,
    read_config,
    read_left_out,
    read_settings,
)
from tests.support.golden import convert, write_artifact

CONFIG = Path("folder") / "config.json"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n no such size\nand more"), "ValueError: no such size"),
        (KeyError(), "KeyError: "),
        (TypeError("x" * 301), f"TypeError: {'x' * 300}"),
    ],
)
def test_the_first_line_of_an_error_of_the_library_is_told(error: Exception, said: str) -> None:
    found = describe_unreadable(CONFIG, error)
    assert (found.headline, found.problems, found.hint) == (
        f"{CONFIG}: is not what transformers reads.", (said,), AGAIN
    )  # fmt: skip


def write_config(folder: Path, **fields: object) -> Path:
    """A folder with the config of a recorded model, these fields changed."""
    folder.mkdir()
    config = {**convert().config.to_dict(), **fields}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def expect(error: pytest.ExceptionInfo[CheckpointError], headline: str, *problems: str, hint: str = AGAIN) -> None:
    assert (error.value.headline, error.value.problems, error.value.hint) == (headline, problems, hint)


def test_a_config_is_read(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", num_hidden_layers=1000)
    assert read_config(folder).num_hidden_layers == 1000


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"num_hidden_layers": 1001}, ["num_hidden_layers: 1001, not a whole number up to 1,000"]),
        ({"num_hidden_layers": "2"}, ["num_hidden_layers: '2', not a whole number up to 1,000"]),
        ({"num_hidden_layers": {}}, ["num_hidden_layers: {}, not a whole number up to 1,000"]),
        ({"num_hidden_layers": None}, ["num_hidden_layers: None, not a whole number up to 1,000"]),
        ({"num_labels": 10**9}, ["num_labels: 1000000000, not a whole number up to 1,000,000"]),
        ({"patch_size": 0}, ["patch_size: 0, not a whole number from 1 up"]),
        ({"patch_size": [14, 14], "image_size": 3598}, ["image_size: 3598, 66,049 patches; at most 65,536"]),
        ({"patch_size": 14, "image_size": 3598}, ["image_size: 3598, 66,049 patches; at most 65,536"]),
        (
            {"num_labels": [0] * 99, "backbone_config": {"model_type": "dinov2", "num_hidden_layers": 10**9}},
            [
                f"num_labels: {str([0] * 99)[:80]}, not a whole number up to 1,000,000",
                "backbone_config.num_hidden_layers: 1000000000, not a whole number up to 1,000",
            ],
        ),
    ],
)
def test_values_that_fill_the_memory_are_refused_before_transformers_reads_them(
    fields: dict[str, object], problems: list[str], tmp_path: Path
) -> None:
    folder = write_config(tmp_path / "model", **fields)
    with pytest.raises(CheckpointError) as error:
        read_config(folder)
    expect(error, f"{folder / 'config.json'}: has values that no model has.", *problems)


def test_a_number_that_no_computation_takes_is_refused(tmp_path: Path) -> None:
    for number in (10**20, -(10**20)):
        with pytest.raises(ValueError, match="a whole number of 21 digits"):
            parse_json(str(number))
    for number in (2**64 - 1, -(2**63)):
        assert parse_json(str(number)) == number
    folder = write_config(tmp_path / "model", layer_norm_eps=10**400)
    with pytest.raises(CheckpointError, match=r"cannot be read as JSON \(ValueError: a whole number of 401 digits\)"):
        read_config(folder)


def test_a_config_with_a_backbones_need_not_have_what_that_tells(tmp_path: Path) -> None:
    """Transformers 4.40 writes null for it."""
    config = json.loads(convert("depth_anything_v2_tiny").config.to_json_string())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": None}), encoding="utf-8")
    assert read_config(tmp_path).backbone_config.num_hidden_layers == 12


def test_a_config_without_a_depth_is_transformers_to_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}', encoding="utf-8")
    assert read_config(tmp_path).num_hidden_layers == 12


def test_what_transformers_raises_is_told_with_the_file(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", model_type="unheard-of")
    with pytest.raises(
        CheckpointError, match=r"(?s)config\.json: is not what transformers reads\..*unheard-of"
    ) as error:
        read_config(folder)
    assert error.value.headline == f"{folder / 'config.json'}: is not what transformers reads."


def test_code_beside_a_config_is_not_run(tmp_path: Path) -> None:
    automap = {"AutoConfig": "own.Config"}
    folder = write_config(tmp_path / "model", model_type="own", auto_map=automap)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(CheckpointError):
        read_config(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1]", "a JSON list, not an object of settings."),
        (b"{", "cannot be read as JSON (JSONDecodeError: Expecting property name"),
        ('{"a": "é"}'.encode("latin-1"), "cannot be read as JSON (UnicodeDecodeError: 'utf-8' codec"),
        (None, "cannot be read as JSON (FileNotFoundError: "),
        (b"[" * 100_000, "cannot be read as JSON (RecursionError: "),
    ],
)
def test_settings_that_are_no_object_are_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_settings(path)
    assert error.value.headline.startswith(f"{path}: {said}")
    assert error.value.hint == AGAIN


def test_settings_are_read_as_utf_8(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"label": "Käse"}', encoding="utf-8")
    assert read_settings(tmp_path / "settings.json") == {"label": "Käse"}


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """An artifact whose original has tensors that transformers' model has no place for."""
    return write_artifact(tmp_path, "data2vec_vision_tiny")


def test_what_was_left_out_is_read(pretrained: Path) -> None:
    expected = convert("data2vec_vision_tiny").left_out
    found = read_left_out(pretrained)
    assert expected
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    (pretrained / LEFT_OUT).unlink()
    assert read_left_out(pretrained) == {}


def test_a_file_of_what_was_left_out_that_is_damaged_is_refused(pretrained: Path) -> None:
    (pretrained / LEFT_OUT).write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError) as error:
        read_left_out(pretrained)
    assert error.value.headline.startswith(f"{pretrained / LEFT_OUT}: cannot be read: Error while deserializing")
    assert (error.value.problems, error.value.hint) == ((), AGAIN)


def test_what_no_conversion_leaves_out_is_refused_all_of_it(pretrained: Path) -> None:
    bias = read_left_out(pretrained)["lm_head.bias"]
    strange = {"lm_head.bias": bias, "lm_head.weight": torch.zeros(2, 3), "lm_head.more": bias, "norm.weight": bias}
    save_file({key: tensor.clone() for key, tensor in strange.items()}, pretrained / LEFT_OUT)
    with pytest.raises(CheckpointError) as error:
        read_left_out(pretrained)
    spec = convert("data2vec_vision_tiny").spec
    shapes = load_family("data2vec_vision").original_shapes(spec)
    assert error.value.headline == f"{pretrained / LEFT_OUT}: holds what no conversion of this model leaves out."
    assert sorted(error.value.problems) == sorted(
        [
            f"lm_head.weight: (2, 3), expected {shapes['lm_head.weight']}",
            f"lm_head.more: {tuple(bias.shape)}, expected no such tensor",
            f"norm.weight: {tuple(bias.shape)}, expected {shapes.get('norm.weight', 'no such tensor')}",
        ]
    )
    assert error.value.hint == (
        f"Remove {LEFT_OUT}: the model is complete without it; or convert the original again."
    )  # fmt: skip
