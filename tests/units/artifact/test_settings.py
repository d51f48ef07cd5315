"""Every field of config.json and preprocessor_config.json is what is expected, or it is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import conversion
from conversion.artifact.checks import check_settings
from conversion.artifact.library_fields import OVERRIDING
from conversion.artifact.settings import find_config_problems, find_processor_problems, list_sizes
from conversion.artifact.stage import save_artifact
from conversion.errors import ArtifactError, CheckpointError, ConversionError
from conversion.families.target import transformers_major
from conversion.intake.restored import read_weights
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from tests.support.fields import CLASSIFIER, CONFIG_FIELDS, GONE, HARMLESS, PLAIN, PROCESSOR_FIELDS, Fields
from tests.support.golden import ARCHITECTURES, read_golden


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The settings that a conversion writes of each architecture, config and image processor."""
    settings = {}
    for name in ARCHITECTURES:
        golden, target = read_golden(name), tmp_path_factory.mktemp("written") / name
        save_artifact(conversion.convert(golden.state_dict, **golden.overrides), target)
        settings[name] = ((target / CONFIG).read_text(), (target / PREPROCESSOR).read_text())
    return settings


@pytest.fixture
def find(written: dict[str, tuple[str, str]], tmp_path: Path) -> Callable[..., list[str]]:
    """What is found in the settings of an architecture, some of them changed; those that are None gone."""

    def find(name: str, config: Fields | None = None, processor: Fields | None = None) -> list[str]:
        for file, text, changes in zip((CONFIG, PREPROCESSOR), written[name], (config, processor), strict=True):
            fields = json.loads(text) | dict(changes or {})
            kept = {field: value for field, value in fields.items() if value is not GONE}
            (tmp_path / file).write_text(json.dumps(kept))
        golden = read_golden(name)
        sizes = list_sizes(golden.family, golden.spec)
        return [
            *find_config_problems(tmp_path, golden.family, golden.spec),
            *find_processor_problems(tmp_path, golden.family, golden.spec, sizes),
        ]

    return find


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_conversion_writes_has_no_problem(name: str, find: Callable[..., list[str]]) -> None:
    assert find(name) == []


@pytest.mark.parametrize(("name", "field", "value", "said"), CONFIG_FIELDS)
def test_a_field_of_the_config_is_as_expected_or_named(
    name: str, field: str, value: Any, said: str, find: Callable[..., list[str]], tmp_path: Path
) -> None:
    put_weights(tmp_path)
    problems = find(name, {field: value})
    assert [problem for problem in problems if problem.startswith(f"{field}: ")], problems
    assert said in "\n".join(problems)


def test_fields_that_only_go_together_are_named_together(find: Callable[..., list[str]]) -> None:
    assert find(PLAIN, {"num_labels": 5}) == ["id2label: 5 names; the model has no classes"]
    features = find(PLAIN, {"out_features": ["stage1"], "out_indices": [1]})
    assert sorted(features) == [
        "out_features: ['stage1'], expected ['stage3']",
        "out_indices: [1], expected [3]",
    ]


def put_weights(folder: Path, dtype: torch.dtype = torch.float32) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, dtype=dtype)}, folder / "model.safetensors")


def shift(labels: Fields) -> dict[str, Any]:
    return {label: (index + 1) % len(labels) for label, index in labels.items()}


def test_label2id_goes_with_id2label(
    written: dict[str, tuple[str, str]], find: Callable[..., list[str]], tmp_path: Path
) -> None:
    own = json.loads(written[CLASSIFIER][0])
    shifted = find(CLASSIFIER, {"label2id": shift(own["label2id"])})
    assert len(shifted) == 1
    assert "label2id: 'LABEL_0' is 1, of which id2label says 'LABEL_1'" in shifted[0]
    first = next(iter(own["label2id"]))
    assert f"label2id: {first!r} is not there" in find(CLASSIFIER, {"label2id": {}})[0]
    renamed = find(CLASSIFIER, {"id2label": own["id2label"] | {"0": "cat"}})
    assert "label2id: 'LABEL_0' is 0, of which id2label says 'cat'; 'cat' is not there" in renamed


def test_classes_that_share_a_name_have_either_index(find: Callable[..., list[str]]) -> None:
    golden = read_golden(CLASSIFIER)
    names = ["crane", "crane", *(str(index) for index in range(2, golden.spec.num_classes))]
    id2label = {str(index): name for index, name in enumerate(names)}
    for label2id in ({name: index for index, name in enumerate(names)}, {"crane": 0} | {n: int(n) for n in names[2:]}):
        assert find(CLASSIFIER, {"id2label": id2label, "label2id": label2id}) == []


def test_a_class_without_a_name_is_named(written: dict[str, tuple[str, str]], find: Callable[..., list[str]]) -> None:
    own = json.loads(written[CLASSIFIER][0])
    # the count of names is the number of classes, so one is exchanged for a number that is none
    id2label = {index: name for index, name in own["id2label"].items() if index != "0"} | {"99": "cat"}
    problems = find(CLASSIFIER, {"id2label": id2label, "label2id": {n: int(i) for i, n in id2label.items()}})
    assert "id2label: class 0 is None, not ''" in problems
    assert "id2label: class 99 is 'cat', not None" in problems


@pytest.mark.parametrize(("name", "field", "value", "said"), PROCESSOR_FIELDS)
def test_a_field_of_the_image_processor_is_as_expected_or_named(
    name: str, field: str, value: Any, said: str, find: Callable[..., list[str]]
) -> None:
    problems = find(name, None, {field: value})
    assert [problem for problem in problems if problem.startswith(f"{field}: ")], problems
    assert said in "\n".join(problems)


@pytest.mark.parametrize(("name", "config", "processor"), HARMLESS)
def test_what_the_library_writes_by_itself_is_no_problem(
    name: str, config: Fields, processor: Fields, find: Callable[..., list[str]]
) -> None:
    assert find(name, config, processor) == []


@pytest.mark.parametrize(("dtypes", "said"), [(("float32",), []), (("float32", "bfloat16"), ["dtype: absent"])])
def test_a_dtype_that_is_not_said_is_that_of_all_weights(
    dtypes: tuple[str, ...], said: list[str], find: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Transformers 5 takes that of the first tensor, and would round the others."""
    from safetensors.torch import save_file

    save_file({name: torch.zeros(2, dtype=getattr(torch, name)) for name in dtypes}, tmp_path / "model.safetensors")
    assert [problem[:13] for problem in find(PLAIN, {"dtype": GONE})] == said


@pytest.mark.parametrize("said", ["float16", "float8_e4m3fn"])
def test_a_dtype_that_would_round_pickled_weights_is_named(
    said: str, find: Callable[..., list[str]], tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(2), "steps": torch.zeros(2, dtype=torch.int64)}, tmp_path / "pytorch_model.bin")
    (problem,) = find(PLAIN, {"dtype": said})
    assert problem == f"dtype: {said!r}, expected 'float32', the dtype of the weights"
    assert find(PLAIN, {"dtype": "float64"}) == []


def test_a_dtype_that_is_not_said_is_read_off_pickled_shards(
    find: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once."""
    names = {dtype: f"pytorch_model-0000{i}-of-00002.bin" for i, dtype in enumerate(("float32", "float16"), 1)}
    for dtype, name in names.items():
        torch.save({dtype: torch.zeros(2, dtype=getattr(torch, dtype))}, tmp_path / name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    read = Mock(wraps=read_weights)
    monkeypatch.setattr("conversion.artifact.settings.read_weights", read)
    assert [problem[:32] for problem in find(PLAIN, {"dtype": GONE})] == ["dtype: absent, expected 'float32'"[:32]]
    assert read.call_count == 1


def test_what_lies_beside_weights_is_no_pickled_model(find: Callable[..., list[str]], tmp_path: Path) -> None:
    torch.save({"learning_rate": 0.1}, tmp_path / "training_args.bin")
    assert find(PLAIN) == []


# what is written into a settings file: what is said of it
BROKEN = {
    "no JSON": ("{", "cannot be read as JSON"),
    "not text": (b"\xff\xfe\x00", "cannot be read as JSON"),
    "a list": ("[]", "a JSON list, not an object of settings"),
    "nested too deeply": ("[" * 100_000, "cannot be read as JSON"),
}


@pytest.mark.parametrize("done", BROKEN)
@pytest.mark.parametrize("file", [CONFIG, PREPROCESSOR])
def test_a_settings_file_that_is_none_is_one_error(
    file: str, done: str, find: Callable[..., list[str]], tmp_path: Path
) -> None:
    find(PLAIN)
    content, said = BROKEN[done]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    out = conversion.convert(read_golden(PLAIN).state_dict, **read_golden(PLAIN).overrides)
    with pytest.raises(CheckpointError, match=f"{file}: .*{said}") as raised:
        check_settings(out, tmp_path)
    assert raised.value.hint


@pytest.mark.parametrize("value", ["MoonImageProcessor", 7, ["BitImageProcessor"], "BertTokenizer"])
def test_an_image_processor_of_an_unknown_class_is_one_error(
    value: object, find: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"{PREPROCESSOR}: is not what transformers reads") as raised:
        find(PLAIN, None, {"image_processor_type": value})
    assert raised.value.hint


def test_a_value_that_no_config_takes_is_one_error(find: Callable[..., list[str]]) -> None:
    if transformers_major() < 5:  # it takes anything
        assert find(PLAIN, {"num_attention_heads": "many"}) == ["num_attention_heads: 'many', expected 2"]
        return
    with pytest.raises(CheckpointError, match=f"{CONFIG}: is not what transformers reads"):
        find(PLAIN, {"num_attention_heads": "many"})


@pytest.mark.parametrize("depth", [10**9, "many"])
def test_a_config_of_countless_blocks_is_not_built(depth: object, find: Callable[..., list[str]]) -> None:
    """Transformers would list them all."""
    with pytest.raises(CheckpointError, match=f"num_hidden_layers: {depth!r}, not a whole number up to 1,000"):
        find(PLAIN, {"num_hidden_layers": depth})


def test_a_backbone_of_another_kind_is_named(find: Callable[..., list[str]]) -> None:
    problems = find("depth_anything_v2_tiny", {"backbone_config": {"model_type": "bert"}})
    assert "backbone_config.model_type: 'bert', expected 'dinov2'" in problems


@pytest.mark.parametrize("name", OVERRIDING)
def test_a_file_that_changes_what_is_loaded_is_named(name: str, find: Callable[..., list[str]], tmp_path: Path) -> None:
    find(PLAIN)
    (tmp_path / name).write_text("{}")
    golden = read_golden(PLAIN)
    out = conversion.convert(golden.state_dict, **golden.overrides)
    with pytest.raises(ArtifactError, match=f"{name}: "):
        check_settings(out, tmp_path, sizes=list_sizes(golden.family, golden.spec))


def test_a_conversion_with_another_field_is_not_written(tmp_path: Path) -> None:
    golden = read_golden(PLAIN)
    out = conversion.convert(golden.state_dict, **golden.overrides)
    out.config.drop_path_rate = 0.5
    with pytest.raises(ConversionError, match=r"config.json: drop_path_rate: 0.5, expected 0.0"):
        save_artifact(out, tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []
