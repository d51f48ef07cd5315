"""Data2Vec-Vision: what its training writes, for synthetic checkpoints: containers, and the scale of their tensors."""

from collections.abc import Mapping

from conversion.families.beit_architecture.training import DEFAULT_ENTRIES, DISTRIBUTIONS, SEGMENTATION_CONTAINER
from conversion.families.training import Training

# task: entry that holds the model, and what lies beside it, as pretraining, fine-tuning under DeepSpeed and
# mmsegmentation write them; the official files hold pickled classes besides, which stay out
CONTAINERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "backbone":              ("model",      {"optimizer": {"state": {}, "param_groups": []}, "epoch": 799}),
    "image-classification":  ("module",     {"optimizer": None, "global_steps": 0, "skipped_steps": 0}),
    "semantic-segmentation": SEGMENTATION_CONTAINER,
}  # fmt: skip

TRAINING = Training(lambda spec: CONTAINERS[spec.task], DISTRIBUTIONS, DEFAULT_ENTRIES)
