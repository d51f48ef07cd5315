"""DINOv2 by the authors' own code, from a clone of facebookresearch/dinov2."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from conversion.families.dinov2.config import RETURNED, Dinov2Spec
from conversion.families.external import construct, import_class
from conversion.families.images import RGB
from conversion.patching import without_xformers

HUB_REPOSITORY = "facebookresearch/dinov2"
MODULE, CLASS = "dinov2.models.vision_transformer", "DinoVisionTransformer"

# before registers, these were no arguments
NEUTRAL = {"num_register_tokens": 0, "interpolate_offset": 0.1, "interpolate_antialias": False}


BIASES = ("qkv_bias", "proj_bias", "ffn_bias")


class Adapter(nn.Module):
    """What makes the authors' class take and return what the bundled original does; to be put before it."""

    linear_head: nn.Module | None
    out_indices: tuple[int, ...]
    apply_layernorm: bool | None
    reshape_hidden_states: bool | None

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Any]:
        """Run the model: what the bundled ``Dinov2.forward`` returns, and what else the authors' code returns."""
        if self.out_indices:
            return {"feature_maps": self.compute_features(pixel_values)}
        # as in training, or the CLS token alone is returned; what else would differ there goes by nn.Module.training
        outputs: dict[str, Tensor] = super().forward(pixel_values, masks=bool_masked_pos, is_training=True)
        if self.linear_head is None:
            return outputs
        pooled = torch.cat((outputs["x_norm_clstoken"], outputs["x_norm_patchtokens"].mean(dim=1)), dim=1)  # (B, 2D)
        return {**outputs, "logits": self.linear_head(pooled)}

    def compute_features(self: Any, pixel_values: Tensor) -> list[Tensor]:
        """Compute what a feature backbone returns, by the authors' code."""
        if self.reshape_hidden_states:
            how = {"reshape": True, "norm": self.apply_layernorm}
            return list(self.get_intermediate_layers(pixel_values, n=self.out_indices, **how))  # (B, D, h, w) each
        # that leaves out the CLS token and the registers, which transformers' backbone returns
        outputs = self._get_intermediate_layers_not_chunked(pixel_values, n=self.out_indices)  # (B, T, D) each
        return [self.norm(tokens) for tokens in outputs] if self.apply_layernorm else list(outputs)


def build_external(spec: Dinov2Spec, clone: Path) -> nn.Module:
    """Build the authors' model of this spec.

    A 1-layer classifier's head is put on as theirs in ``dinov2/hub/classifiers.py`` is.

    Args:
        clone: the folder that has ``dinov2/models/vision_transformer.py``.

    Raises:
        CheckpointError: it is no such clone, lacks packages, or is too old for registers.
    """
    with without_xformers():
        authors = import_class(clone, MODULE, CLASS)
    resampling = {name: getattr(spec, name) for name in ("interpolate_offset", "interpolate_antialias")}
    arguments = {
        "img_size": spec.image_size,
        "patch_size": spec.patch_size,
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "mlp_ratio": spec.mlp_ratio,
        "ffn_layer": "mlp" if spec.ffn == "mlp" else "swiglufused",
        "init_values": 1.0 if spec.layer_scale else None,  # any but none, or there is no layer scale
        "block_chunks": 0,
        "num_register_tokens": spec.num_register_tokens,
        **{name: value for name, value in resampling.items() if value is not None},
        **{name: getattr(spec, name) for name in BIASES if not getattr(spec, name)},
        **({} if spec.num_channels == RGB else {"in_chans": spec.num_channels}),
    }
    model: Any = construct(type(CLASS, (Adapter, authors), {}), arguments, NEUTRAL, clone)
    if not spec.mask_token:
        model.mask_token = None
    model.linear_head = nn.Linear(2 * spec.embed_dim, spec.num_classes) if spec.num_classes else None
    for name in RETURNED:
        setattr(model, name, getattr(spec, name))
    return cast("nn.Module", model)
