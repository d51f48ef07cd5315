"""Synthetic checkpoints: the original's format, deterministic, and such that every tensor matters."""

from pathlib import Path

import pytest
import torch

from conversion import VARIANTS, load_checkpoint
from conversion.card import hash_file
from conversion.family import load_family
from conversion.parity.metrics import is_bit_equal
from conversion.synthetic import draw_state_dict, draw_tensor, write_synthetic_checkpoint
from tests.golden import read_golden

SMALL = VARIANTS["dinov2_vits14_reg_1layer"]


def test_files_are_the_originals_own_format(tmp_path: Path) -> None:
    paths = write_synthetic_checkpoint(SMALL, tmp_path, seed=0)
    assert {role: path.name for role, path in paths.items()} == {
        "backbone": "dinov2_vits14_reg4_pretrain.pth",
        "linear_head": "dinov2_vits14_reg4_linear_head.pth",
    }
    family = load_family("dinov2")
    shapes = family.original_shapes(family.spec_of(SMALL))
    backbone, head = load_checkpoint(paths["backbone"]), load_checkpoint(paths["linear_head"])
    found = backbone | {f"linear_head.{key}": tensor for key, tensor in head.items()}
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_files_are_the_same_twice_and_differ_by_seed(tmp_path: Path) -> None:
    hashes = []
    for index, seed in enumerate((0, 0, 1)):
        directory = tmp_path / str(index)
        directory.mkdir()
        hashes.append(hash_file(write_synthetic_checkpoint(VARIANTS["dinov2_vits14"], directory, seed)["backbone"]))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_classifier_stands_on_its_backbones_own_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    classifier = write_synthetic_checkpoint(SMALL, tmp_path / "a", 0)["backbone"]
    backbone = write_synthetic_checkpoint(VARIANTS[SMALL.backbone], tmp_path / "b", 0)["backbone"]
    assert hash_file(classifier) == hash_file(backbone)


def test_a_tensor_depends_on_seed_variant_and_key_alone() -> None:
    shapes = {"blocks.0.norm1.bias": (64,), "blocks.1.norm1.bias": (64,)}
    together = draw_state_dict(shapes, "variant", 0)
    alone = draw_tensor(0, "variant", "blocks.1.norm1.bias", (64,))
    assert is_bit_equal(together["blocks.1.norm1.bias"], alone)
    others = [together["blocks.0.norm1.bias"], draw_tensor(1, "variant", "blocks.1.norm1.bias", (64,)),
              draw_tensor(0, "other", "blocks.1.norm1.bias", (64,))]  # fmt: skip
    assert not any(is_bit_equal(alone, other) for other in others)


@pytest.mark.parametrize(
    ("key", "shape", "mean", "std"),
    [
        ("blocks.0.attn.qkv.weight", (300, 400), 0.0, 1 / 20),
        ("patch_embed.proj.weight", (300, 4, 10, 10), 0.0, 1 / 20),
        ("blocks.0.attn.qkv.bias", (40000,), 0.0, 0.2),
        ("blocks.0.norm1.weight", (40000,), 1.0, 0.1),
        ("norm.weight", (40000,), 1.0, 0.1),
        ("norm.bias", (40000,), 0.0, 0.2),
        ("blocks.0.ls1.gamma", (40000,), 0.55, 0.3 / 12**0.5),
        ("pos_embed", (1, 200, 200), 0.0, 0.5),
        ("cls_token", (1, 1, 40000), 0.0, 0.5),
        ("register_tokens", (1, 4, 10000), 0.0, 0.5),
        ("linear_head.bias", (40000,), 0.0, 0.2),
    ],
)
def test_tensors_have_their_scale(key: str, shape: tuple[int, ...], mean: float, std: float) -> None:
    tensor = draw_tensor(0, "variant", key, shape)
    assert float(tensor.mean()) == pytest.approx(mean, abs=5 * std / 40000**0.5)
    assert float(tensor.std()) == pytest.approx(std, rel=0.02)


def test_every_tensor_matters_in_the_output() -> None:
    """Zeroing any tensor changes the output of a tiny model (of qkv.bias, softmax does not see the key's third)."""
    golden = read_golden("dinov2_tiny_reg_1layer")
    family = load_family("dinov2")
    state_dict = draw_state_dict(family.original_shapes(golden.spec), "tiny", 0)
    case = next(case for case in golden.cases if case.inputs.bool_masked_pos is not None)
    inputs = case.inputs.pixel_values, case.inputs.bool_masked_pos
    with torch.inference_mode():
        before = family.load_original(golden.spec, state_dict)(*inputs)["logits"]
        for key, tensor in state_dict.items():
            zeroed = state_dict | {key: torch.zeros_like(tensor)}
            after = family.load_original(golden.spec, zeroed)(*inputs)["logits"]
            assert (after - before).abs().max() > 1e-3, key
