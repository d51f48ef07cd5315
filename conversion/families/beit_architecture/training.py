"""BEiT's architecture: what the authors' training writes, for synthetic checkpoints."""

from collections.abc import Mapping

from conversion.families.training import Draw, count, fan_in, normal, uniform

DISTRIBUTIONS: Mapping[str, Draw] = {
    # patches with so small a variance that the eps of the first norm shows, as in trained models
    "*patch_embed.proj.weight": fan_in(gain=0.1),
    "*patch_embed.proj.bias":   normal(0.02),
    "*.num_batches_tracked":    count(1, 160_000),
    "*.running_mean":           normal(0.2),
    "*.running_var":            uniform(0.5, 1.5),
    "*.bn.weight":              normal(0.1, mean=1.0),
    "*.fpn1.1.weight":          normal(0.1, mean=1.0),
    "*.fpn?.?.weight":          fan_in(0),  # transposed: each output pixel sums over the input channels of one
}  # fmt: skip

SEGMENTATION_CONTAINER = ("state_dict", {"meta": {"epoch": 128, "iter": 160_000}})
"""The entry that holds the model in mmsegmentation's files, and what lies beside it."""

DEFAULT_ENTRIES = ("model", "module")
"""Where several entries hold a model, the one that the authors' fine-tuning reads (``--model_key model|module``).

Beside it lies ``model_ema``, the average that training predicts.
"""
