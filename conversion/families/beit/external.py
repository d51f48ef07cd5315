"""BEiT by the authors' own code, from a clone of microsoft/unilm."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conversion.families.beit.config import BeitSpec
from conversion.families.beit_architecture.external import FOLDER, Authors, build, find_classifier, list_obstacles

FOLDER_V2 = "beit2"


class Pretrained(nn.Module):
    """What makes ``VisionTransformerForMaskedImageModeling`` take and return what the bundled original does."""

    forward_features: Any
    lm_head: nn.Module
    patch_embed: Any

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``last_hidden_state`` ``(B, T, D)``, ``logits`` of every patch ``(B, N, vocab_size)``.

        The authors' own forward gives logits of masked patches alone, and cannot do without a mask.
        """
        if bool_masked_pos is None:
            shape = (pixel_values.shape[0], self.patch_embed.num_patches)
            bool_masked_pos = torch.zeros(shape, dtype=torch.bool, device=pixel_values.device)
        features = self.forward_features(pixel_values, bool_masked_pos)
        tokens = features[0] if isinstance(features, tuple) else features  # the second is for v2's second loss
        return {"last_hidden_state": tokens, "logits": self.lm_head(tokens[:, 1:])}


def build_external(spec: BeitSpec, clone: Path) -> nn.Module:
    """Build the authors' model of this spec.

    Args:
        clone: the folder that has ``beit/modeling_finetune.py``, or its ``beit`` or ``beit2``.

    Raises:
        CheckpointError: it is no such clone, lacks packages, or has no class for models of this spec.
    """
    obstacles = list_obstacles(spec)
    if spec.task == "backbone":
        obstacles = ["a pretrained model without lm_head: the authors' always has one"]
    return build(spec, clone, _find_authors(spec), obstacles)


def _find_authors(spec: BeitSpec) -> Authors:
    if spec.task != "masked-image-modeling":
        return find_classifier(spec)
    name, arguments = "VisionTransformerForMaskedImageModeling", {"vocab_size": spec.vocab_size}
    if not spec.num_cls_layers:
        return Authors(Pretrained, FOLDER, "modeling_pretrain", name, arguments)
    # after which block the second loss begins does not matter, but for there being such a block
    arguments |= {"head_layers": spec.num_cls_layers, "early_layers": spec.depth}
    return Authors(Pretrained, FOLDER_V2, "modeling_pretrain", f"{name}CLS", arguments)
