"""Fields of config.json and preprocessor_config.json: values that are wrong, and what the library writes by itself."""

from collections.abc import Mapping
from typing import Any

from tests.support.golden import read_golden

PLAIN, CLASSIFIER, SEGMENTATION = "dinov2_tiny", "dinov2_tiny_1layer", "data2vec_vision_tiny_ade20k"

Fields = Mapping[str, Any]

GONE = object()
"""In place of a field that is not there."""

# of config.json: architecture, field, value, and what is said of it
CONFIG_FIELDS: list[tuple[str, str, Any, str]] = [
    (PLAIN, "architectures", None, "architectures: None, expected ['Dinov2Model']"),
    (PLAIN, "architectures", GONE, "architectures: None, the library's default for what is absent, expected"),
    (PLAIN, "architectures", ["Dinov2Model", "Dinov2Backbone"], "expected ['Dinov2Model']"),
    (PLAIN, "architectures", ["Dinov2WithRegistersBackbone"], "RegistersBackbone'], expected ['Dinov2Model']"),
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
    (PLAIN, "crop_pct", 0.875, "crop_pct: 0.875; the original's Dinov2Config has no such field"),
    (PLAIN, "quantization_config", {"bits": 4}, "the original's Dinov2Config has no such field"),
    (
        PLAIN,
        "auto_map",
        {"AutoModel": "code.Model"},
        "auto_map: {'AutoModel': 'code.Model'}; the original's Dinov2Config",
    ),
    (PLAIN, "attn_implementation", "eager", "attn_implementation: 'eager'; the original's Dinov2Config"),
]

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
