"""A folder under test whose settings, cards or left-out tensors are not what they should be: one error, once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import conversion
from conversion.artifact.stage import save_artifact
from conversion.errors import ConversionError
from conversion.state_dicts.folder import CONFIG, LEFT_OUT, PARITY_CARD, PREPROCESSOR
from conversion.suite.folder import FolderSubject
from conversion.suite.settings import Request
from tests.support.commands import run
from tests.support.golden import read_golden

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    golden, target = read_golden("dinov2_tiny"), tmp_path_factory.mktemp("made") / "tiny"
    save_artifact(conversion.convert(golden.state_dict, **golden.overrides), target)
    return target


@pytest.fixture
def folder(made_once: Path, tmp_path: Path) -> Path:
    """A folder as somebody else's conversion leaves it: without a card."""
    target = Path(shutil.copytree(made_once, tmp_path / "tiny"))
    (target / PARITY_CARD).unlink()
    return target


def set_field(name: str, field: str, value: object) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(content | {field: value}))

    return change


def leave_out(tensors: dict[str, Any]) -> Change:
    return lambda folder: save_file(tensors, folder / LEFT_OUT)


# what was done to a folder: what is said of it
FOLDERS: dict[str, tuple[Change, str]] = {
    "processor no JSON": (lambda f: (f / PREPROCESSOR).write_text("{"), f"{PREPROCESSOR}: cannot be read as JSON"),
    "processor a list": (lambda f: (f / PREPROCESSOR).write_text("[]"), f"{PREPROCESSOR}: a JSON list"),
    "processor of no class": (
        set_field(PREPROCESSOR, "image_processor_type", "MoonImageProcessor"),
        f"{PREPROCESSOR}: is not what transformers reads",
    ),
    "processor with code": (
        set_field(PREPROCESSOR, "auto_map", {"AutoImageProcessor": "code.Mine"}),
        f"{PREPROCESSOR}: auto_map: ",
    ),
    "crop smaller than a patch": (
        set_field(PREPROCESSOR, "crop_size", {"height": 7, "width": 7}),
        r"crop_size: \{'height': 7, 'width': 7\}, expected .*70 is the native size",
    ),
    "crop of another size": (
        set_field(PREPROCESSOR, "crop_size", {"height": 210, "width": 210}),
        r"crop_size: \{'height': 210, 'width': 210\}, expected .*224 is the size of the official evaluation",
    ),
    "a foreign key left out": (leave_out({"mine": torch.zeros(2)}), r"mine: \(2,\), expected no such tensor"),
    "left out, no tensors": (lambda f: (f / LEFT_OUT).write_text("{"), f"{LEFT_OUT}: cannot be read"),
    "a card without files": (
        lambda f: (f / PARITY_CARD).write_text('{"schema": "parity-card/2", "result": []}'),
        "its result is a JSON list, not a table of files",
    ),
    "a card of names alone": (
        lambda f: (f / PARITY_CARD).write_text('{"schema": "parity-card/2", "result": ["config.json"]}'),
        "its result is a JSON list, not a table of files",
    ),
    "an adapter": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        r"PEFT.s adapters lie beside the model \(adapter_config.json\)",
    ),
    "a dropout": (set_field(CONFIG, "hidden_dropout_prob", 0.5), "hidden_dropout_prob: 0.5, expected 0.0"),
    "two architectures": (
        set_field(CONFIG, "architectures", ["Dinov2Model", "Dinov2Backbone"]),
        r"architectures: .*, expected \['Dinov2Model'\]",
    ),
    "many blocks": (set_field(CONFIG, "num_hidden_layers", 10**9), "tells of 1000000000 blocks; there are 61 tensors"),
}


def open_folder(folder: Path) -> FolderSubject:
    request = Request(checkpoint=folder, overrides={})
    return FolderSubject("dinov2_custom", request)


@pytest.mark.parametrize("done", FOLDERS)
def test_a_folder_that_is_not_right_is_one_error(done: str, folder: Path) -> None:
    change, said = FOLDERS[done]
    change(folder)
    with pytest.raises(ConversionError, match=said) as raised:
        _ = open_folder(folder).inputs
    assert raised.value.hint
    assert str(folder) in str(raised.value)


def test_a_folder_that_is_right_is_not_refused(folder: Path) -> None:
    assert [case.name for case in open_folder(folder).inputs][:2] == ["native", "batch_2"]
    set_field(PREPROCESSOR, "crop_size", {"height": 70, "width": 70})(folder)
    set_field(PREPROCESSOR, "size", {"shortest_edge": 80})(folder)
    assert next(case.height for case in open_folder(folder).inputs if case.photo) == 70


def test_the_error_is_the_whole_of_what_the_suite_says(folder: Path) -> None:
    (folder / PREPROCESSOR).write_text("{")
    code, output = run(folder.parent, "--checkpoint", "tiny")
    assert code == 1, output
    assert f"{PREPROCESSOR}: cannot be read as JSON" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


UNCHECKED = "import conversion.suite.folder as folder\nfolder.check_settings = lambda *_, **__: None\n"


@pytest.mark.parametrize(("plugin", "said"), [("", "layer_norm_eps: 1e-05"), (UNCHECKED, "first at block.0.norm1")])
def test_a_folder_that_computes_something_else_fails(plugin: str, said: str, folder: Path) -> None:
    set_field(CONFIG, "layer_norm_eps", 1e-5)(folder)
    code, output = run(folder.parent, "--checkpoint", "tiny", plugin=plugin)
    assert code == 1
    assert said in output
