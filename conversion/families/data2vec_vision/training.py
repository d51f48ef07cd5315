"""Data2Vec-Vision: what its training writes, for synthetic checkpoints: containers, and the scale of their tensors."""

from collections.abc import Mapping

from conversion.families.training import Draw, Training, count, fan_in, normal, uniform

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

DEFAULT_ENTRIES = ("model", "module")
"""Where several entries hold a model, the one that the authors' fine-tuning reads (``--model_key model|module``).

The official models on the Hub are of this entry, too. Beside it lies ``model_ema``, the average that training predicts.
"""

# task: entry that holds the model, and what lies beside it, as pretraining, fine-tuning under DeepSpeed and
# mmsegmentation write them; the official files hold pickled classes besides, which stay out
CONTAINERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "backbone":              ("model",      {"optimizer": {"state": {}, "param_groups": []}, "epoch": 799}),
    "image-classification":  ("module",     {"optimizer": None, "global_steps": 0, "skipped_steps": 0}),
    "semantic-segmentation": ("state_dict", {"meta": {"epoch": 128, "iter": 160_000}}),
}  # fmt: skip

TRAINING = Training(lambda spec: CONTAINERS[spec.task], DISTRIBUTIONS, DEFAULT_ENTRIES)
