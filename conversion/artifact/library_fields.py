"""What transformers writes into its settings files by itself: field to what it may be.

These fields say nothing about a model. All others must be what the family writes, or what the library's class has by
default: :mod:`conversion.artifact.settings`.
"""

from collections.abc import Mapping

ANY_TEXT = ("transformers_version", "_name_or_path", "name_or_path")
"""Who wrote the config, and where its model was read from."""

DTYPES = ("dtype", "torch_dtype")
"""The dtype that a model is loaded in: that of the weights. transformers 4 writes the second name."""

# fields that every config had in transformers 4 and that none of this project's models reads, with their defaults
OLD_CONFIG_FIELDS: Mapping[str, object] = {
    "add_cross_attention": False,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "bos_token_id": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "finetuning_task": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "pad_token_id": None,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "sep_token_id": None,
    "suppress_tokens": None,
    "task_specific_params": None,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "tokenizer_class": None,
    "top_k": 50,
    "top_p": 1.0,
    "torchscript": False,
    "typical_p": 1.0,
    "use_bfloat16": False,
    # other ways to find a backbone, in configs that may have another config in them
    "backbone": None,
    "backbone_kwargs": None,
    "use_autobackbone": True,
    "use_pretrained_backbone": False,
    "use_timm_backbone": False,
    # of a head for pretraining that Data2Vec-Vision's config was given with BEiT's, and no model reads
    "vocab_size": 8192,
}

BESIDE_BACKBONE = frozenset({"backbone_out_indices"})
"""Fields that are read only where a config has no other config in it."""

IDLE_IN_PART = frozenset({*ANY_TEXT, *DTYPES, "architectures", "id2label", "label2id", "output_attentions"})
"""Fields of a config within another config that nothing reads: the outer config's are read."""

# what an image processor of any class may be given with each call, and what it is where it was not given any
CALL_FIELDS: Mapping[str, tuple[object, ...]] = {
    "data_format": ("channels_first", None),
    "device": (None,),
    "disable_grouping": (None,),
    "do_convert_rgb": (None,),
    "do_pad": (None, False),
    "image_seq_length": (None,),
    "input_data_format": (None,),
    "pad_size": (None,),
    "processor_class": (None,),
    "return_tensors": (None,),
}

PROCESSOR_CLASSES = ("image_processor_type", "feature_extractor_type")
"""Names of the class, the second of versions before 4.26."""

OLD_PROCESSOR_NAMES: Mapping[str, str] = {"reduce_labels": "do_reduce_labels"}
"""Fields that were renamed, to what they are called now."""

SWITCHES: Mapping[str, str] = {
    "size": "do_resize",
    "resample": "do_resize",
    "crop_size": "do_center_crop",
    "rescale_factor": "do_rescale",
    "image_mean": "do_normalize",
    "image_std": "do_normalize",
}
"""A field of an image processor to the one without which it is not read."""

BACKENDS = ("Fast", "Pil")
"""What ends the name of a class with another backend than the plain name's. The deviation image-processor-backend
speaks of these; which one a user gets is chosen on loading, not by the file."""

OVERRIDING: Mapping[str, str] = {
    "adapter_config.json": "from_pretrained puts its adapter into the model",
    "processor_config.json": "its settings take the place of those in preprocessor_config.json",
}
"""Files beside the weights that change what is loaded, without a trace in the other files."""
