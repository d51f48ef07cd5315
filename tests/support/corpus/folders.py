"""Folders that hold no model that can be taken, or a part of one."""

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from tests.support.corpus.making import BadInput, configured, holding, write, write_ranks
from tests.support.golden import tiny
from tests.support.training_folders import STEP, write_lightning, write_zero

OPTIMIZER = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
RUN = "lightning_logs/version_0/checkpoints"
PART = "zero_pp_rank_1_mp_rank_00_model_states.pt"
KEYS = {"embeddings.cls_token": torch.zeros(1, 1, 32), "encoder.layer.0.norm1.bias": torch.zeros(32)}
ADAPTERS = {f"base_model.model.encoder.layer.0.mlp.fc1.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
TYPES = "the types that are known here are dinov2, dinov2_with_registers, data2vec-vision, dinov3_vit, beit, dpt"


def write_lone_shards(folder: Path, *numbers: int) -> None:
    for number in numbers:
        save_file({f"x{number}": torch.ones(1)}, folder / f"model-{number:05}-of-00003.safetensors")


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def write_dcp(folder: Path) -> None:
    dcp.save({"model": tiny()}, checkpoint_id=str(folder / "run"), no_dist=True)


def write_two_parts(folder: Path) -> None:
    for rank in range(2):
        torch.save({"module": tiny()}, folder / f"mp_rank_0{rank}_model_states.pt")


PARTS: dict[str, BadInput] = {
    "shards without their index": BadInput(
        lambda folder: write_lone_shards(folder, 1, 2, 3),
        r"without their index model\.safetensors\.index\.json.*\n(.*\n)*Copy model\.safetensors\.index\.json into",
        ".",
    ),
    "some shards, without their index": BadInput(
        lambda folder: write_lone_shards(folder, 1, 3),
        r"model-00002-of-00003\.safetensors: not there\n(.*\n)*Copy .*index\.json and the shards that are not there",
        ".",
    ),
    "one shard": BadInput(
        lambda folder: write_lone_shards(folder, 1, 2, 3),
        r"without their index.*\n(.*\n)*Copy model\.safetensors\.index\.json",
        "model-00002-of-00003.safetensors",
    ),
    "one shard beside its index": BadInput(
        lambda folder: [
            write_lone_shards(folder, 1, 2, 3),
            write(b"{}", folder, "model.safetensors.index.json"),
        ],
        r"one of the 3 shards of a model\.\nGive their index: vision-parity inspect .*index\.json",
        "model-00002-of-00003.safetensors",
    ),
    "the folder above checkpoints": BadInput(
        lambda folder: [write_lightning(make_folder(folder / name), tiny(), "last.ckpt") for name in ("a", "b")],
        r"without a checkpoint in it; there are some in its subfolders.*\n.*a/\n.*b/\n.*vision-parity inspect \S*b$",
        ".",
    ),
    "the folder of a run of Lightning's": BadInput(
        lambda folder: write_lightning(make_folder(folder / RUN), tiny(), "last.ckpt"),
        rf"without a checkpoint in it; there are some in its subfolders.*\n.*- {RUN}/\n.*inspect \S*{RUN}$",
        ".",
    ),
    "several of Lightning's": BadInput(
        lambda folder: write_lightning(folder, tiny(), "epoch=3-step=100.ckpt", "last.ckpt"),
        r"several checkpoints in it.*\n.*epoch=3.*\n.*last\.ckpt\n.*vision-parity inspect \S*last\.ckpt",
        ".",
    ),
}

ZERO: dict[str, BadInput] = {
    "a folder of ZeRO 3": BadInput(
        lambda folder: write_zero(folder, tiny(), 3),
        r"DeepSpeed's ZeRO 3, .*\n(.*\n)*.*model_states.*\n(.*\n)*.*cd \S+ && python zero_to_fp32\.py \. out$",
        ".",
    ),
    "the step of ZeRO 3": BadInput(
        lambda folder: write_zero(folder, tiny(), 3), r"ZeRO 3, .*\n(.*\n)*.*python zero_to_fp32\.py \. out$", STEP
    ),
    "an earlier step of ZeRO 3": BadInput(
        lambda folder: [write_zero(folder, tiny(), 3), write_zero(folder, tiny(), 3, step="global_step200")],
        rf"ZeRO 3, .*\n(.*\n)*.*python zero_to_fp32\.py \. out --tag {STEP}$",
        STEP,
    ),
    "a rank's file of ZeRO 3": BadInput(
        lambda folder: write_zero(folder, tiny(), 3), r"one file of .*ZeRO 3.*\n.*zero_to_fp32\.py", f"{STEP}/{PART}"
    ),
    "a rank's file of ZeRO 3 under another name, with buffers": BadInput(
        lambda folder: (write_zero(folder, tiny(), 3, buffers=2) / PART).rename(folder / "bad.pth"),
        r"49 of 51 tensors are empty.*\n(.*\n)*.*python zero_to_fp32\.py",
    ),
    "the optimizer of ZeRO 2": BadInput(
        lambda folder: write_zero(folder, tiny(), 2),
        r"DeepSpeed's optimizer, not the model\.\nGive the model: vision-parity inspect \S*mp_rank_00_model_states\.pt",
        f"{STEP}/{OPTIMIZER}",
    ),
    "the optimizer of ZeRO 2 alone": BadInput(
        lambda folder: (write_zero(folder, tiny(), 2) / "mp_rank_00_model_states.pt").unlink(),
        r"DeepSpeed's optimizer, without the model.*\n(.*\n)*Copy mp_rank_00_model_states\.pt",
        ".",
    ),
    "DeepSpeed's model beside another checkpoint": BadInput(
        lambda folder: [
            torch.save({"module": tiny()}, folder / name) for name in ("best.pth", "mp_rank_00_model_states.pt")
        ],
        r"several checkpoints in it.*\n.*best\.pth\n.*mp_rank_00",
        ".",
    ),
    "a model in parallel parts": BadInput(
        write_two_parts,
        r"trained in parallel parts.*\n(.*\n)*Save the state dict of the whole model",
        ".",
    ),
    "parallel parts by a pattern": BadInput(
        write_two_parts,
        r"trained in parallel parts.*\n(.*\n)*Save the state dict of the whole model",
        "mp_rank_*_model_states.pt",
    ),
    "a run of transformers' Trainer with DeepSpeed": BadInput(
        lambda folder: [
            write(b'{"model_type": "dinov2"}', folder, "config.json"),
            write_zero(folder, tiny(), 2),
        ],
        r"without weights that from_pretrained reads.*\n.*mp_rank_00_.*\n.*give that file: vision-parity inspect \S*mp",
        ".",
    ),
}

OTHER_TYPES: dict[str, BadInput] = {
    f"a folder of {model_type}": BadInput(
        configured(f'{{"model_type": "{model_type}"}}'.encode(), tensors), f"'{model_type}'; {TYPES}", name
    )
    for model_type, tensors, name in (
        ("deit", KEYS, "."),
        ("zoedepth", {f"backbone.{key}": tensor for key, tensor in KEYS.items()}, "."),
        ("vit", KEYS, "model.safetensors"),
        ("of_code_that_comes_with_it", KEYS, "."),
    )
} | {
    "another type with more files": BadInput(
        lambda folder: [
            configured(b'{"model_type": "deit"}', KEYS)(folder),
            save_file(KEYS, folder / "other.safetensors"),
            write_ranks(folder, tiny()),
        ],
        f"'deit'; {TYPES}",
        ".",
    ),
    "transformers' names without a type": BadInput(
        configured(b"{}", KEYS), r"without a config\.json that names its type\.\nCopy its config\.json", "."
    ),
    "adapters beside a model": BadInput(
        lambda folder: [
            configured(b'{"model_type": "dinov2"}', KEYS)(folder),
            write(b"{}", folder, "adapter_config.json"),
            save_file(ADAPTERS, folder / "adapter_model.safetensors"),
        ],
        r"PEFT's adapters lie beside the model.*\n.*move adapter_config\.json out of the folder.*merge_and_unload\(\)",
        ".",
    ),
    "adapters of a model of transformers": BadInput(
        lambda folder: save_file(ADAPTERS, folder / "adapter_model.safetensors"),
        r"adapters of PEFT .*\n(.*\n)*.*merge_and_unload\(\)\.save_pretrained\(",
        ".",
    ),
    "adapters in a model of transformers": BadInput(
        holding({f"base_model.model.{key}": tensor for key, tensor in KEYS.items()} | ADAPTERS),
        r"adapters of PEFT .*\n(.*\n)*.*merge_and_unload\(\)\.save_pretrained\(",
    ),
    "transformers' names in a file of another name": BadInput(
        holding(KEYS),
        r"Copy its config\.json beside it\. Save the model's own state dict as pytorch_model\.bin\. Then: ",
    ),
    "the same with its config": BadInput(
        lambda folder: [
            write(b'{"model_type": "dinov2"}', folder, "config.json"),
            save_file(KEYS, folder / "other.safetensors"),
        ],
        r"already\.\nName the file model\.safetensors\. To check it: vision-parity compare ORIGINAL",
        "other.safetensors",
    ),
    "the file of a known type": BadInput(
        configured(b'{"model_type": "dinov2"}', KEYS),
        r"in the layout of transformers already\.\nTo check it: vision-parity compare ORIGINAL \S+",
        "model.safetensors",
    ),
    "a known type with weights that it does not read": BadInput(
        lambda folder: [write(b'{"model_type": "dinov2"}', folder, "config.json"), holding(tiny())(folder)],
        r"without weights that from_pretrained reads.*\n.*bad\.pth\n.*vision-parity inspect \S*bad\.pth",
        ".",
    ),
}

PARTIAL: dict[str, BadInput] = PARTS | ZERO | OTHER_TYPES
