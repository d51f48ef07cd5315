"""A folder that ``from_pretrained`` reads: its files, and what of them is read here."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MODEL_CARD, PARITY_CARD = "README.md", "parity.json"
LEFT_OUT = "left_out.safetensors"
"""Tensors of the original that have no place in the converted model, where it has such."""


def read_config(directory: Path) -> "PretrainedConfig":
    """The transformers config of an artifact, staged or published."""
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    return config


def read_left_out(directory: Path) -> "dict[str, Tensor]":
    """The tensors that an artifact keeps beside its model, under their original keys; mostly none."""
    from safetensors.torch import load_file

    return load_file(directory / LEFT_OUT) if (directory / LEFT_OUT).exists() else {}
