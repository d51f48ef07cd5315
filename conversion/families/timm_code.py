"""timm's own code as the original: its classes, with the state dict as timm wrote it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from conversion.errors import CheckpointError, KeyMapError
from conversion.families.external import NumbersOnCpu

TIMM_CODE = "timm"
"""In place of a clone's path: timm, as it is installed."""

Description = Mapping[str, Any]
"""What a timm ``config.json`` tells: ``architecture``, and ``model_args`` where it gives any."""

BUNDLED_INSTEAD = "Compare with the bundled original: give convert, or pytest, --original bundled."
TELL_INSTEAD = "Move that file away, and give what it tells as options: vision-parity inspect names them."
"""Of a ``config.json`` beside a checkpoint."""

DESCRIBE_ROTARY = (
    "If this is timm's DINOv3, put the config.json that timm writes beside it, which names the architecture "
    "(timm.models.save_for_hf writes both), and give their folder. No tensor tells the kind and the base of rotary "
    "positions, nor the number of heads."
)
"""The way out where nothing tells which of timm's models with rotary positions a state dict is."""


def translate_nothing(state_dict: Mapping[str, Tensor], _description: object = None) -> tuple[dict[str, Tensor], str]:
    """Leave a state dict as it is, where no other library has other names."""
    return dict(state_dict), ""


def build_model(
    description: Description | None, model_class: Callable[..., nn.Module], shaped: Mapping[str, object], **told: object
) -> nn.Module:
    """Build timm's model, without memory where the default device is meta.

    What the description tells goes before everything else, so that a spec that was told otherwise does not agree.

    Args:
        description: the architecture to create by name; a model of ``model_class`` if there is none.
        shaped: arguments that the tensors' shapes give, and that the description may give, too.
        told: arguments that shapes do not give; used without a description only.

    Raises:
        CheckpointError: timm cannot build it.
    """
    import timm

    described = dict((description or {}).get("model_args") or {})
    name = str((description or {}).get("architecture") or getattr(model_class, "__name__", ""))
    try:
        arguments: dict[str, Any] = {**shaped, **({} if description else told), **read_arguments(described)}
        with NumbersOnCpu():
            if description:
                return timm.create_model(name, pretrained=False, **arguments)
            return model_class(**arguments)
    except Exception as error:  # timm raises nearly everything on values that it does not expect
        problems = [f"{type(error).__name__}: {error}", *(f"{key}={value}" for key, value in described.items())]
        if description:
            headline = f"timm {version('timm')} cannot build {name}, which config.json names."
            raise CheckpointError(headline, problems, TELL_INSTEAD) from error
        raise CheckpointError(f"timm {version('timm')} cannot build its {name}.", problems, BUNDLED_INSTEAD) from error


def read_arguments(described: Mapping[str, object]) -> dict[str, object]:
    """Replace the name of a layer by the layer, which JSON cannot hold.

    Raises:
        AttributeError: timm has no layer of this name.
    """
    layers = import_module("timm.layers")
    by_name = {key: value for key, value in described.items() if key == "mlp_layer" and isinstance(value, str)}
    return {**described, **{key: getattr(layers, str(value)) for key, value in by_name.items()}}


def take_any_size(description: Description | None) -> Description | None:
    """Describe the same model, but taking images of any size, as transformers' does."""
    if description is None:
        return None
    return {**description, "model_args": {**(description.get("model_args") or {}), "dynamic_img_size": True}}


def is_packed(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the feed-forward is gated, with gate and up in one tensor ``(2H, D)``; what leaves it is ``(D, H)``."""
    into, out = state_dict.get("blocks.0.mlp.fc1.weight"), state_dict.get("blocks.0.mlp.fc2.weight")
    return into is not None and out is not None and into.ndim == out.ndim == 2 and into.shape[0] == 2 * out.shape[1]


def refuse_foreign(state_dict: Mapping[str, Tensor], foreign: Mapping[str, str], hint: str) -> None:
    """Refuse a state dict of timm's with modules that transformers' model has no place for.

    Args:
        foreign: what the keys of such modules begin with, to what they are in timm.

    Raises:
        CheckpointError: naming their tensors.
    """
    problems = [
        f"{key} {tuple(tensor.shape)}: {what}"
        for key, tensor in state_dict.items()
        for prefix, what in foreign.items()
        if key.startswith(prefix)
    ]
    if problems:
        raise CheckpointError("timm's model has modules that transformers' has no place for.", problems, hint)


def refuse_masks(bool_masked_pos: Tensor | None) -> None:
    """Refuse to mask patches, which no model of timm's does.

    Raises:
        ValueError: patches are to be masked.
    """
    if bool_masked_pos is not None:
        raise ValueError("timm's model has no mask token: its patches cannot be masked.")


def adapt(model: nn.Module, adapter: type[nn.Module]) -> Any:
    """Put an adapter before the class of a model that is built already."""
    model.__class__ = type(type(model).__name__, (adapter, type(model)), {})
    return model


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], description: Description | None) -> nn.Module:
    """Load timm's state dict, not copied, into a model on the meta device; what timm computes itself, it computes.

    Raises:
        KeyMapError: tensors are missing, left over or of another shape.
        CheckpointError: timm is too old to compute its buffers outside of a constructor.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    problems = [f"missing: {key} {shape}" for key, shape in shapes.items() if key not in given]
    problems += [f"unexpected: {key} {shape}" for key, shape in given.items() if key not in shapes]
    problems += [
        f"{key}: {given[key]}, not {shapes[key]}" for key in shapes if given.get(key, shapes[key]) != shapes[key]
    ]
    if problems:
        headline = f"{describe_timm(description)}: the model does not take these tensors."
        raise KeyMapError(headline, problems, BUNDLED_INSTEAD)
    model.load_state_dict(state_dict, strict=True, assign=True)
    device = next(iter(state_dict.values())).device
    for module in model.modules():
        compute_buffers(module, device, description)
    return model.eval().requires_grad_(False)


def describe_timm(description: Description | None) -> str:
    """Describe the original for an artifact's card: timm's version, and the architecture if it is known."""
    architecture = (description or {}).get("architecture")
    return f"timm {version('timm')}" + (f", {architecture}" if architecture else "")


def compute_buffers(module: nn.Module, device: torch.device, description: Description | None) -> None:
    """Have timm compute a module's own buffers on a device, where they are on the meta device.

    Raises:
        CheckpointError: timm is too old for that.
    """
    buffers = {name: tensor for name, tensor in module.named_buffers(recurse=False) if tensor.is_meta}
    if not buffers:
        return
    compute: Any = getattr(module, "init_non_persistent_buffers", None)
    if compute is None:
        headline = (
            f"{describe_timm(description)}: too old to compute {', '.join(buffers)} of a model on the meta device."
        )
        raise CheckpointError(headline, hint=f"Update timm. {BUNDLED_INSTEAD}")
    for name, tensor in buffers.items():
        setattr(module, name, torch.empty_like(tensor, device=device))
    compute()
