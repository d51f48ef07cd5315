"""BEiT: what its training writes, for synthetic checkpoints."""

from collections.abc import Mapping

from conversion.families.beit_architecture.training import DEFAULT_ENTRIES, DISTRIBUTIONS, SEGMENTATION_CONTAINER
from conversion.families.training import Training

# task: entry that holds the model, and what lies beside it
CONTAINERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "backbone":              ("model", {}),
    "masked-image-modeling": ("model", {}),
    "image-classification":  ("model", {}),
    "semantic-segmentation": SEGMENTATION_CONTAINER,
}  # fmt: skip

TRAINING = Training(lambda spec: CONTAINERS[spec.task], DISTRIBUTIONS, DEFAULT_ENTRIES)
