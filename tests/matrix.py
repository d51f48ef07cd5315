"""What the command line chooses: which variants, and which cells of the matrix."""

import os
from pathlib import Path

import torch

from conversion.checkpoint import load_checkpoint
from conversion.errors import CheckpointError, DeviceError
from conversion.state_dict import HEAD_PREFIX, identify_variant, recognise_family
from conversion.variants import VARIANTS

DTYPES = ("float32", "float64", "bfloat16", "float16")
ATTENTIONS = ("eager", "sdpa")


def choose_variants(
    checkpoint: Path | None, linear_head: Path | None, num_attention_heads: int | None, keyword: str
) -> list[str]:
    """The variants to verify: all official ones; or the one that a checkpoint holds, or that ``-k`` names for it.

    Raises:
        CheckpointError: the checkpoint cannot be read or recognised.
    """
    if checkpoint is None:
        if linear_head or num_attention_heads:
            raise CheckpointError("--linear-head and --num-attention-heads belong to --checkpoint, which is not given.")
        return list(VARIANTS)
    if keyword in VARIANTS:
        return [keyword]
    shapes = {key: tuple(tensor.shape) for key, tensor in load_checkpoint(checkpoint).items()}
    if linear_head:
        head = load_checkpoint(linear_head)
        shapes |= {HEAD_PREFIX + key.removeprefix(HEAD_PREFIX): tuple(head[key].shape) for key in head}
    family = recognise_family(shapes)
    return [identify_variant(family, family.recognise_spec(shapes, num_attention_heads))]


def check_axes(
    devices: list[str] | None, dtypes: list[str] | None, attentions: list[str] | None
) -> tuple[list[str], list[str], list[str]]:
    """Fill in the defaults, and refuse what is not there; nothing that was asked for is skipped.

    Raises:
        DeviceError: a device is absent, or a dtype or attention implementation is unknown.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    devices = devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    dtypes, attentions = dtypes or ["float32"], attentions or list(ATTENTIONS)
    known = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    problems = [problem for device in devices if (problem := _find_device_problem(device))]
    problems += [f"--dtype {dtype}: not one of {', '.join(DTYPES)}" for dtype in dtypes if dtype not in DTYPES]
    problems += [f"--attention {name}: not one of {', '.join(known)}" for name in attentions if name not in known]
    if problems:
        raise DeviceError("The matrix asked for cannot be run here.", problems)
    return devices, dtypes, attentions


def prepare_torch(worker_count: str | None) -> None:
    """Divide torch's threads among the workers of pytest-xdist, and let no GPU round float32 to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if worker_count:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(worker_count)))


def _find_device_problem(device: str) -> str:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"--device {device}: {str(error).splitlines()[0]}"
    return ""
