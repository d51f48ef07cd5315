"""The artifact: complete or not there, equal to what was converted, the same twice, and in nobody's way."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import conversion
from conversion import ConversionError
from conversion.artifact.card import hash_file
from conversion.artifact.checks import check_tensors
from conversion.artifact.files import FILES
from conversion.artifact.load import load_model
from conversion.artifact.model_card import TASKS
from conversion.artifact.stage import save_artifact, stage_artifact
from conversion.artifact.versions import read_cpu_maker
from conversion.artifact.weights import WEIGHTS, read_tensors
from conversion.errors import ArtifactError
from conversion.families.base import load_family
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.folder import CONFIG, MODEL_CARD, PARITY_CARD
from tests.support.golden import NAMES, NUM_HEADS, convert, read_golden


def test_an_artifact_has_its_files_and_loads(tmp_path: Path) -> None:
    out = convert("dinov2_tiny_reg_1layer")
    save_artifact(out, tmp_path / "deep" / "tiny")
    assert {path.name for path in (tmp_path / "deep" / "tiny").iterdir()} == FILES
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["tiny"]
    model = load_model(tmp_path / "deep" / "tiny")
    assert type(model).__name__ == out.architecture
    tensors = read_tensors(tmp_path / "deep" / "tiny")
    assert all(is_bit_equal(tensor, tensors[key]) for key, tensor in out.state_dict.items())
    restored = conversion.restore(tensors, model.config)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in out.source.items())


def test_the_weights_file_is_readable_like_the_others(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "tiny").iterdir()}
    assert len(modes) == 1


def test_auto_classes_load_them_in_a_new_process(tmp_path: Path) -> None:
    outs = {name: convert(name) for name in NAMES}
    for name, out in outs.items():
        save_artifact(out, tmp_path / name)
    code = (
        "import sys, transformers as t\n"
        "for each in sys.argv[1:]:\n"
        "    folder, task = each.split('=')\n"
        "    # below the head of masked images a pooling has no weights, below that of depth there is no model\n"
        "    for auto in {task} if 'Masked' in task or 'Depth' in task else ('AutoModel', task):\n"
        "        model, info = getattr(t, auto).from_pretrained(folder, output_loading_info=True)\n"
        "        assert not info['missing_keys'], (folder, info)\n"
        "    t.AutoImageProcessor.from_pretrained(folder)\n"
        "    print(folder, type(model).__name__)\n"
    )
    named = [f"{name}={TASKS[out.spec.task][1] or out.spec.hf_class}" for name, out in outs.items()]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *named]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    loaded = dict(line.split() for line in result.stdout.splitlines())
    assert loaded == {name: out.architecture for name, out in outs.items()}


def test_a_conversion_without_values_is_refused(tmp_path: Path) -> None:
    meta = {key: tensor.to("meta") for key, tensor in read_golden("dinov2_tiny").state_dict.items()}
    with pytest.raises(ArtifactError, match="have no values to write"):
        save_artifact(conversion.convert(meta, num_attention_heads=NUM_HEADS), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_artifact(convert(), tmp_path / name / "tiny")
    for file in FILES:
        assert hash_file(tmp_path / "a" / "tiny" / file) == hash_file(tmp_path / "b" / "tiny" / file), file


@pytest.mark.parametrize(
    ("told", "maker"),
    [("processor\t: 0\nvendor_id\t: AuthenticAMD\n", "AuthenticAMD"), ("CPU implementer\t: 0x41\n", "Arm")],
)
def test_the_maker_of_the_processor_is_as_it_says(told: str, maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    monkeypatch.setattr("platform.processor", lambda: "Family 8, Arm")
    assert read_cpu_maker.__wrapped__() == maker


def test_the_card_for_machines_holds_hashes_versions_and_accounts(tmp_path: Path) -> None:
    save_artifact(convert("dinov2_tiny_1layer"), tmp_path / "tiny")
    card = json.loads((tmp_path / "tiny" / PARITY_CARD).read_text())
    for name in (WEIGHTS, CONFIG):
        assert card["result"][name] == hash_file(tmp_path / "tiny" / name)
    assert card["versions"]["torch"] == torch.__version__.split("+")[0]
    assert card["keys"] == {"renamed": 45, "split": 6, "dropped": {}}
    assert card["tensors"]["compared"] == 51
    assert card["verdict"] == "not compared"
    assert "Activations were not compared." in (tmp_path / "tiny" / MODEL_CARD).read_text()


def test_an_artifact_is_replaced(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny")
    save_artifact(convert("dinov2_tiny_reg"), tmp_path / "tiny")
    assert type(load_model(tmp_path / "tiny")).__name__ == "Dinov2WithRegistersModel"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_staged_artifact_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    with stage_artifact(convert(), tmp_path / "tiny") as staged:
        assert staged.directory.parent == tmp_path
        assert not (staged.directory / WEIGHTS).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_staged_artifact_does_not_load_as_a_model(tmp_path: Path) -> None:
    from transformers import AutoModel

    with stage_artifact(convert(), tmp_path / "tiny") as staged, pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(staged.directory, local_files_only=True)


def test_a_tensor_that_changed_on_the_way_to_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    def save_in_bfloat16(tensors: dict[str, torch.Tensor], *args: object, **kwargs: object) -> None:
        save_file({key: tensor.bfloat16() for key, tensor in tensors.items()}, *args, metadata={"format": "pt"})

    monkeypatch.setattr("conversion.artifact.weights.write_safetensors", save_in_bfloat16)
    with pytest.raises(ArtifactError, match=r"qkv.bias: source \(96,\) torch.float32, restored .*bfloat16"):
        save_artifact(convert(), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen"])
def test_a_model_that_does_not_load_back_whole_is_refused(fault: str, tmp_path: Path) -> None:
    """Transformers 5 would fill a missing tensor at random, and only warn."""
    from safetensors.torch import save_file

    out = convert()
    save_artifact(out, tmp_path / "tiny")
    tensors = dict(out.state_dict)
    key = "encoder.layer.1.mlp.fc1.weight"
    if fault == "missing":
        del tensors[key]
    elif fault == "unexpected":
        tensors["encoder.layer.9.mlp.fc1.weight"] = torch.zeros(1)
    else:
        tensors[key] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / "tiny" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises((ArtifactError, RuntimeError), match=r"encoder\.layer\.(1|9)\.mlp\.fc1\.weight"):
        load_model(tmp_path / "tiny")


@pytest.mark.parametrize(("key", "where"), [("norm.bias", "artifact"), ("another.bias", "source")])
def test_a_tensor_of_one_side_alone_is_named(key: str, where: str, tmp_path: Path) -> None:
    out = convert()
    save_artifact(out, tmp_path / "tiny")
    source = dict(out.source)
    if where == "artifact":
        del source[key]
    else:
        source[key] = torch.zeros(1)
    with pytest.raises(ArtifactError, match="does not give the source back") as raised:
        check_tensors(replace(out, source=source), tmp_path / "tiny")
    assert raised.value.problems == (f"{key}: only in the {where}",)


def test_an_architecture_that_transformers_lacks_is_refused(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny")
    config = json.loads((tmp_path / "tiny" / CONFIG).read_text())
    (tmp_path / "tiny" / CONFIG).write_text(json.dumps(config | {"architectures": ["Dinov9Model"]}))
    with pytest.raises(ArtifactError, match=r"has no architecture 'Dinov9Model', .*\nConvert the original again, with"):
        load_model(tmp_path / "tiny")


def test_tensors_that_are_not_contiguous_or_shared_are_written(tmp_path: Path) -> None:
    state_dict = dict(read_golden("dinov2_tiny").state_dict)
    state_dict["blocks.0.mlp.fc1.weight"] = state_dict["blocks.0.mlp.fc1.weight"].T.contiguous().T
    state_dict["blocks.1.norm1.weight"] = state_dict["blocks.0.norm1.weight"]
    out = conversion.convert(state_dict, num_attention_heads=NUM_HEADS)
    save_artifact(out, tmp_path / "tiny")
    restored = conversion.restore(read_tensors(tmp_path / "tiny"), out.config)
    assert all(is_bit_equal(tensor, restored[key]) for key, tensor in state_dict.items())


def test_saving_does_not_change_the_conversion(tmp_path: Path) -> None:
    out = convert()
    before = out.config.to_dict(), {key: tensor.clone() for key, tensor in out.state_dict.items()}
    save_artifact(out, tmp_path / "tiny")
    load_model(tmp_path / "tiny", attention="eager", dtype="float64")
    assert out.config.to_dict() == before[0]
    assert all(is_bit_equal(tensor, out.state_dict[key]) for key, tensor in before[1].items())


def test_a_config_of_another_depth_is_noticed_on_the_way_back(tmp_path: Path) -> None:
    out = convert()
    shallow = load_family("dinov2").build_config(replace(out.spec, depth=2), ())
    with pytest.raises(ConversionError, match=r"(?s)another model than the original.*num_hidden_layers: 2, expected 3"):
        save_artifact(replace(out, config=shallow), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_files_have_no_time_in_them(tmp_path: Path) -> None:
    save_artifact(convert(), tmp_path / "tiny")
    text = (tmp_path / "tiny" / PARITY_CARD).read_text() + (tmp_path / "tiny" / MODEL_CARD).read_text()
    assert str(tmp_path) not in text
    assert time.strftime("%Y-%m-%d") not in text
