"""The examples of README and docs, and small files under the names that they use."""

import operator
import re
import shlex
import warnings
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from conversion.families import variants
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS, Variant
from conversion.intake import training_config
from conversion.intake.synthetic import draw_state_dict, write_synthetic_checkpoint
from tests.support import timm_models
from tests.support.corpus.making import cut_in_two, write_ranks

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
STATUS = re.compile(r"\n\nExit status: (\d)\.")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# what a small variant has in the place of an official one's; a segmentation model's features come from block 11
SMALL: dict[str, dict[str, dict[str, object]]] = {
    "dinov2": {
        "vits14": {"embed_dim": 96, "depth": 2, "num_heads": 6, "image_size": 70},
        "vitb14": {"embed_dim": 192, "depth": 4, "num_heads": 12, "image_size": 70},
    },
    "data2vec_vision": {"base": {"embed_dim": 48, "depth": 12, "num_heads": 3, "hidden_dim": 192},
                        "ade20k": {"image_size": 128}},
    "beit": {"base": {"embed_dim": 48, "depth": 12, "num_heads": 3, "hidden_dim": 192}, "ade20k": {"image_size": 128}},
    "dinov2_depth": {
        size: {"embed_dim": width, "depth": 4, "num_heads": width // 16, "image_size": 70, "out_indices": (0, 1, 2, 3),
               "neck_widths": (8, 8, 8, 8)}
        for size, width in (("vits14", 96), ("vitb14", 192), ("vitl14", 64), ("vitg14", 64))
    },
    "depth_anything": {
        size: {"embed_dim": width, "depth": 4, "num_heads": width // 16, "image_size": 70, "out_indices": (0, 1, 2, 3),
               "neck_widths": (8, 8, 8, 8), "fusion_width": 8, "input_size": 70}
        for size, width in (("vits", 96), ("vitb", 192), ("vitl", 64))
    },
    "dinov3": {"vits16": {"embed_dim": 64, "depth": 2, "num_heads": 2, "hidden_dim": 128}},
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A command of a page.

    Attributes:
        status: that the page says it ends with; 0 where it says nothing.
    """

    program: str
    arguments: tuple[str, ...]
    status: int = 0


def list_blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of a page in these languages; of no name, an empty text."""
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def list_commands(page: Path, *programs: str) -> list[Example]:
    """Every command of these programs in the blocks and tables of a page, in their order."""
    text, found = page.read_text(encoding="utf-8"), list[Example]()
    for part in re.finditer(rf"{FENCE.pattern}|^\|[^|]*\| `(?P<cell>[^`]*)`", text, re.DOTALL | re.MULTILINE):
        said = STATUS.match(text, part.end())
        for line in (part["cell"] or part[2] or "").splitlines() if part[1] != "python" else ():
            for command in line.removeprefix("$ ").split(" && "):
                if command.split(" ")[0] in programs:
                    program, *arguments = shlex.split(command, comments=True)
                    found.append(Example(program, tuple(arguments), int(said[1]) if said else 0))
    return found


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the official variants small, in the table that tells them."""
    for name, row in VARIANTS.items():
        found = [changes for size, changes in SMALL[row.family].items() if size in name]
        spec = MappingProxyType(reduce(operator.or_, found, dict(row.spec)))
        monkeypatch.setitem(variants._BY_NAME, name, replace(row, spec=spec))
    monkeypatch.setitem(training_config.ARCHITECTURES, "vit_small", (96, 2, 6))


def write_files(folder: Path) -> None:
    """Write small checkpoints under the names that the examples use, of variants that are small."""
    for name in ("dinov2_vits14", "dinov2_vitb14_1layer", "dinov2_vitb14_nyu_dpt", "depth_anything_v2_vits"):
        write_synthetic_checkpoint(VARIANTS[name], folder, 0)
    small, other = (draw("dinov2_vits14", seed) for seed in (0, 1))
    torch.save({"teacher": small, "student": other}, folder / "teacher_checkpoint.pth")
    torch.save({"teacher": own()}, folder / "teacher.pth")
    torch.save({"model": {f"module._orig_mod.{key}": tensor for key, tensor in own().items()}}, folder / "last.pth")
    (folder / "run").mkdir()
    write_ranks(folder / "run", *cut_in_two(small))
    with warnings.catch_warnings(action="ignore"):  # no process group is there
        dcp.save({"model": dict(small)}, checkpoint_id=folder / "run" / "step-1000")
    torch.save({"module": draw("data2vec_vision_base_ft1k", 0)}, folder / "mp_rank_00_model_states.pt")
    torch.save({"state_dict": draw("data2vec_vision_base_ade20k", 0)}, folder / "iter_160000.pth")
    (folder / "names.txt").write_text("".join(f"class {number}\n" for number in range(150)), encoding="utf-8")
    (folder / "sharded").mkdir()
    save_torch_state_dict(small, folder / "sharded", max_shard_size="100KB")
    narrow = {"img_size": 70, "embed_dim": 32, "depth": 2, "num_heads": 2}
    timm_models.write(folder / "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2", narrow)


def write_training_config(folder: Path) -> None:
    """Write what a training run leaves beside its teacher."""
    told = "student: {arch: vit_small, patch_size: 14, num_register_tokens: 0}\n"
    (folder / "config.yaml").write_text(told, encoding="utf-8")


def draw(name: str, seed: int) -> dict[str, Tensor]:
    """The state dict of a variant."""
    row: Variant = VARIANTS[name]
    family = load_family(row.family)
    return draw_state_dict(family, family.spec_of(row), name, seed)


def own() -> dict[str, Tensor]:
    """Of a backbone of one's own: 12 heads, each 12 wide."""
    family = load_family("dinov2")
    spec: dict[str, Any] = {**VARIANTS["dinov2_vits14"].spec, "embed_dim": 144, "num_heads": 12}
    return draw_state_dict(family, family.build_spec(**spec), "own", 0)
