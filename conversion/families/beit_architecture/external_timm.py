"""The BEiT architecture by timm's own code."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from conversion.errors import CheckpointError
from conversion.families.beit_architecture.config import BeitLikeSpec
from conversion.families.external import Projection
from conversion.families.timm_code import (
    BUNDLED_INSTEAD,
    Description,
    adapt,
    build_model,
    describe_timm,
    refuse_masks,
)
from conversion.mapping.key_map import Shapes


class Adapter(nn.Module):
    """What makes timm's ``Beit`` take and return what the bundled original does; to be put before it."""

    is_pooled: bool
    forward_features: Callable[[Tensor], Tensor]
    forward_head: Callable[[Tensor], Tensor]

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> dict[str, Tensor]:
        """Run the model: ``logits`` ``(B, num_classes)``, or what is pooled; of a backbone ``last_hidden_state``.

        Raises:
            ValueError: patches are to be masked.
        """
        refuse_masks(bool_masked_pos)
        tokens = self.forward_features(pixel_values)
        return {"logits": self.forward_head(tokens)} if self.is_pooled else {"last_hidden_state": tokens}


def build_timm(description: Description | None, spec: BeitLikeSpec, _shapes: Shapes) -> nn.Module:
    """Build timm's model of this spec.

    Args:
        description: what a ``config.json`` of timm's told, if there was one. Then the number of heads is its own, and
            not the spec's.

    Raises:
        CheckpointError: timm has no such model.
    """
    obstacle = "a segmentation model" if spec.task == "semantic-segmentation" else ""
    obstacle = "a mask token" if spec.mask_token else obstacle
    if obstacle:
        raise CheckpointError(f"{describe_timm(description)} has no such model: {obstacle}.", hint=BUNDLED_INSTEAD)
    from timm.models.beit import Beit

    shaped: dict[str, object] = {
        "img_size": spec.image_size,
        "in_chans": spec.num_channels,
        "init_values": 1.0 if spec.layer_scale else None,
        "num_classes": spec.num_classes,
        "global_pool": "avg" if spec.mean_pooling else "token",
    }
    told: dict[str, object] = {
        "patch_size": spec.patch_size,
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "qkv_bias": spec.qkv_bias,
        "mlp_ratio": (spec.hidden_dim + 0.5) / spec.embed_dim,  # times the width, it is rounded down
        "use_abs_pos_emb": spec.absolute_positions,
        "use_rel_pos_bias": spec.block_position_bias,
        "use_shared_rel_pos_bias": spec.shared_position_bias,
    }
    model = adapt(build_model(description, Beit, shaped, **told), Adapter)
    model.is_pooled = spec.task == "image-classification"
    for block in model.blocks:
        block.attn.fused_attn = False  # the scores as the original computes them, whatever timm is set to
        block.attn.qkv = Projection(block.attn.qkv.weight)  # of which timm takes the weight only, past all hooks
    return cast("nn.Module", model)
