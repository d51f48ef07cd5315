"""Every field of config.json and preprocessor_config.json is what is expected, or it is named."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import conversion
from conversion.artifact.checks import check_settings
from conversion.artifact.library_fields import OVERRIDING
from conversion.artifact.settings import find_config_problems, find_processor_problems, list_sizes
from conversion.artifact.stage import save_artifact
from conversion.errors import ArtifactError, CheckpointError, ConversionError
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.target import transformers_major
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR, read_config
from conversion.state_dicts.restore import find_family
from tests.support.golden import ARCHITECTURES, read_golden

PLAIN, CLASSIFIER, SEGMENTATION = "dinov2_tiny", "dinov2_tiny_1layer", "data2vec_vision_tiny_ade20k"

Fields = Mapping[str, Any]


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


GONE = object()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_conversion_writes_has_no_problem(name: str, find: Callable[..., list[str]]) -> None:
    assert find(name) == []


# of config.json: architecture, field, value, and what is said of it
CONFIG_FIELDS: list[tuple[str, str, Any, str]] = [
    (PLAIN, "architectures", None, "architectures: None, expected ['Dinov2Model']"),
    (PLAIN, "architectures", GONE, "architectures: None, the library's default for what is absent, expected"),
    (PLAIN, "architectures", ["Dinov2Model", "Dinov2Backbone"], "expected ['Dinov2Model']"),
    (PLAIN, "architectures", ["Dinov2Backbone"], "architectures: ['Dinov2Backbone'], expected ['Dinov2Model']"),
    (PLAIN, "apply_layernorm", False, "apply_layernorm: False, expected True"),
    (PLAIN, "reshape_hidden_states", False, "reshape_hidden_states: False, expected True"),
    (PLAIN, "hidden_dropout_prob", 0.5, "hidden_dropout_prob: 0.5, expected 0.0"),
    (PLAIN, "attention_probs_dropout_prob", 0.5, "attention_probs_dropout_prob: 0.5, expected 0.0"),
    (PLAIN, "drop_path_rate", 0.5, "drop_path_rate: 0.5, expected 0.0"),
    (SEGMENTATION, "drop_path_rate", 0.5, "drop_path_rate: 0.5, expected 0.1"),
    (PLAIN, "problem_type", "regression", "problem_type: 'regression', expected None"),
    (SEGMENTATION, "semantic_loss_ignore_index", 0, "semantic_loss_ignore_index: 0, expected 255"),
    (SEGMENTATION, "auxiliary_loss_weight", 1.0, "auxiliary_loss_weight: 1.0, expected 0.4"),
    (PLAIN, "stage_names", ["stem", "a", "b", "c"], "stage_names: ['stem', 'a', 'b', 'c'], expected"),
    (PLAIN, "layer_norm_eps", 1e-5, "layer_norm_eps: 1e-05, expected 1e-06"),
    (PLAIN, "layerscale_value", 0.5, "layerscale_value: 0.5, expected 1.0"),
    (PLAIN, "initializer_range", 0.5, "initializer_range: 0.5, expected 0.02"),
    (PLAIN, "output_hidden_states", True, "output_hidden_states: True, expected False"),
    (PLAIN, "output_attentions", True, "output_attentions: True, expected False"),
    (PLAIN, "return_dict", False, "return_dict: False, expected True"),
    (PLAIN, "chunk_size_feed_forward", 2, "chunk_size_feed_forward: 2, expected 0"),
    (PLAIN, "pruned_heads", {"0": [1]}, "pruned_heads: {'0': [1]}, expected {}"),
    (PLAIN, "image_size", GONE, "image_size: 224, the library's default for what is absent, expected 70"),
    (PLAIN, "dtype", "float16", "dtype: 'float16', expected 'float32', the dtype of the weights"),
    (PLAIN, "torch_dtype", "bfloat16", "torch_dtype: 'bfloat16', expected 'float32', the dtype of the weights"),
    (PLAIN, "id2label", {"0": "cat", "1": "dog", "2": "cow"}, "id2label: 3 names; the model has no classes"),
    (PLAIN, "crop_pct", 0.875, "crop_pct: 0.875; Dinov2Config has no such field"),
    (PLAIN, "quantization_config", {"bits": 4}, "quantization_config: {'bits': 4}; Dinov2Config has no such field"),
    (PLAIN, "auto_map", {"AutoModel": "code.Model"}, "auto_map: {'AutoModel': 'code.Model'}; Dinov2Config has no"),
    (PLAIN, "attn_implementation", "eager", "attn_implementation: 'eager'; Dinov2Config has no such field"),
]


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


SIZED = "70 is the native size, 224 is the size of the official evaluation"

# of preprocessor_config.json
PROCESSOR_FIELDS: list[tuple[str, str, Any, str]] = [
    (PLAIN, "do_flip_channel_order", True, "do_flip_channel_order: True; BitImageProcessor has no such field"),
    (PLAIN, "input_data_format", "channels_last", "input_data_format: 'channels_last', expected None"),
    (PLAIN, "default_to_square", True, "default_to_square: True, expected False"),
    (PLAIN, "do_reduce_labels", True, "do_reduce_labels: True; BitImageProcessor has no such field"),
    ("data2vec_vision_tiny", "do_reduce_labels", True, "do_reduce_labels: True, expected False"),
    ("data2vec_vision_tiny", "reduce_labels", True, "reduce_labels: True, expected False"),
    (SEGMENTATION, "do_reduce_labels", GONE, "do_reduce_labels: False, the library's default for what is absent"),
    (PLAIN, "do_resize", False, "do_resize: False, expected True"),
    (PLAIN, "do_rescale", False, "do_rescale: False, expected True"),
    (PLAIN, "do_normalize", False, "do_normalize: False, expected True"),
    (PLAIN, "do_center_crop", False, "do_center_crop: False, expected True"),
    (PLAIN, "do_convert_rgb", False, "do_convert_rgb: False, expected True"),
    (PLAIN, "do_pad", True, "do_pad: True, expected None"),
    (PLAIN, "rescale_factor", 1 / 127, "rescale_factor: 0.007"),
    (PLAIN, "image_mean", GONE, "the library's default for what is absent, expected [0.485, 0.456, 0.406]"),
    (PLAIN, "image_std", [0.5, 0.5, 0.5], "image_std: [0.5, 0.5, 0.5], expected [0.229, 0.224, 0.225]"),
    (PLAIN, "resample", 2, "resample: 2, expected 3"),
    (PLAIN, "crop_pct", 0.875, "crop_pct: 0.875; BitImageProcessor has no such field"),
    (PLAIN, "data_format", "channels_last", "data_format: 'channels_last', expected 'channels_first'"),
    (PLAIN, "device", "cuda", "device: 'cuda', expected None"),
    (PLAIN, "size", {"shortest_edge": 512}, "size: {'shortest_edge': 512}, expected {'shortest_edge': 256}"),
    (PLAIN, "crop_size", {"height": 210, "width": 210}, f"expected {{'height': 70, 'width': 70}} ({SIZED})"),
    (PLAIN, "crop_size", {"height": 7, "width": 7}, SIZED),
    (PLAIN, "crop_size", {"height": 224, "width": 210}, SIZED),
    (PLAIN, "image_processor_type", "ViTImageProcessor", "'ViTImageProcessor', expected 'BitImageProcessor'"),
    (PLAIN, "image_processor_type", "CLIPImageProcessor", "'CLIPImageProcessor', expected 'BitImageProcessor'"),
    (PLAIN, "auto_map", {"AutoImageProcessor": "code.Mine"}, "code that comes with a model is not run"),
]


@pytest.mark.parametrize(("name", "field", "value", "said"), PROCESSOR_FIELDS)
def test_a_field_of_the_image_processor_is_as_expected_or_named(
    name: str, field: str, value: Any, said: str, find: Callable[..., list[str]]
) -> None:
    problems = find(name, None, {field: value})
    assert [problem for problem in problems if problem.startswith(f"{field}: ")], problems
    assert said in "\n".join(problems)


# what the library and its versions write, and what has no effect
HARMLESS: list[tuple[str, Fields, Fields]] = [
    (PLAIN, {"_name_or_path": "me/mine", "transformers_version": "4.31.0"}, {}),
    (PLAIN, {"torch_dtype": "float32", "dtype": GONE}, {}),
    (PLAIN, {"dtype": GONE, "out_features": None, "stage_names": GONE}, {}),
    (PLAIN, {"tie_word_embeddings": True, "pruned_heads": {}, "max_length": 20, "torchscript": False}, {}),
    (CLASSIFIER, {"num_labels": read_golden(CLASSIFIER).spec.num_classes}, {}),
    (PLAIN, {}, {"image_processor_type": "BitImageProcessorFast"}),
    (PLAIN, {}, {"image_processor_type": GONE}),
    (PLAIN, {}, {"image_processor_type": GONE, "feature_extractor_type": "BitFeatureExtractor"}),
    # as 4.57 writes a fast one
    (
        PLAIN,
        {},
        {
            "image_processor_type": "BitImageProcessorFast",
            "data_format": "channels_first",
            "default_to_square": False,
            "device": None,
            "disable_grouping": None,
            "do_pad": None,
            "input_data_format": None,
            "pad_size": None,
            "return_tensors": None,
        },
    ),
    (PLAIN, {}, {"crop_size": {"height": 70, "width": 70}, "size": {"shortest_edge": 80}}),
    ("data2vec_vision_tiny", {"vocab_size": 8192}, {"crop_size": {"height": 384, "width": 384}}),
    ("data2vec_vision_tiny", {}, {"reduce_labels": False, "size": read_golden("data2vec_vision_tiny").spec.image_size}),
]


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


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DINOV2 = {**SMALL, "image_size": 70, "patch_size": 14}
DATA2VEC = {**SMALL, "image_size": 64, "patch_size": 16, "intermediate_size": 64}
PRETRAINED = {"use_mask_token": True, "use_mean_pooling": False, "use_shared_relative_position_bias": True}
OFFICIAL_EPS = "layer_norm_eps: 1e-12, expected 1e-06; known deviation 'layer-norm-eps-default'"

# class, its config, dtype, and what is found
SAVED: list[tuple[str, str, Fields, str, list[str]]] = [
    ("Dinov2Model", "Dinov2Config", DINOV2, "float32", []),
    ("Dinov2Model", "Dinov2Config", {**DINOV2, "use_swiglu_ffn": True}, "bfloat16", []),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINOV2, "float32", []),
    ("Dinov2ForImageClassification", "Dinov2Config", {**DINOV2, "num_labels": 7}, "float32", []),
    ("Dinov2ForImageClassification", "Dinov2Config", DINOV2, "float16", []),
    ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", DINOV2, "float32", []),
    ("Data2VecVisionModel", "Data2VecVisionConfig", {**DATA2VEC, **PRETRAINED}, "float32", [OFFICIAL_EPS]),
    (
        "Data2VecVisionForImageClassification",
        "Data2VecVisionConfig",
        {**DATA2VEC, "use_relative_position_bias": True, "num_labels": 5, "layer_norm_eps": 1e-6},
        "float32",
        [],
    ),
]


@pytest.mark.parametrize(("name", "config", "fields", "dtype", "said"), SAVED)
def test_what_the_library_saves_of_a_right_model_raises_no_alarm(
    name: str, config: str, fields: Fields, dtype: str, said: list[str], tmp_path: Path
) -> None:
    model = getattr(transformers, name)(getattr(transformers, config)(**fields))
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path)
    save_processor(tmp_path, "dinov2" in config.lower())
    family = find_family(read_config(tmp_path))
    spec = family.read_config(read_config(tmp_path))
    problems = list(find_config_problems(tmp_path, family, spec))
    assert [problem.partition(": the config's")[0] for problem in problems] == said
    assert list(find_processor_problems(tmp_path, family, spec, list_sizes(family, spec))) == []


def save_processor(folder: Path, is_dinov2: bool) -> None:
    plain = "Pil" if transformers_major() >= 5 else ""
    sizes: dict[str, Any] = {"size": {"height": 64, "width": 64}}
    if is_dinov2:
        sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
        sizes |= {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    name = f"{'Bit' if is_dinov2 else 'Beit'}ImageProcessor{plain}"
    getattr(transformers, name)(**sizes).save_pretrained(folder)


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


@pytest.mark.parametrize("value", ["MoonImageProcessor", 7, ["BitImageProcessor"]])
def test_an_image_processor_of_an_unknown_class_is_one_error(
    value: object, find: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"{PREPROCESSOR}: is not what transformers reads") as raised:
        find(PLAIN, None, {"image_processor_type": value})
    assert raised.value.hint


def test_a_value_that_no_config_takes_is_one_error(find: Callable[..., list[str]]) -> None:
    with pytest.raises(CheckpointError, match=f"{CONFIG}: is not what transformers reads"):
        find(PLAIN, {"num_hidden_layers": "many"})


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
