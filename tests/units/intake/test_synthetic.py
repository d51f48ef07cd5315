"""Synthetic checkpoints: the original's format, deterministic, and such that every tensor matters."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion import VARIANTS, load_checkpoint
from conversion.artifact.card import hash_file
from conversion.families.base import load_family
from conversion.intake import synthetic
from conversion.intake.synthetic import (
    draw_state_dict,
    draw_tensor,
    list_distributions,
    write_synthetic_checkpoint,
)
from conversion.mapping.key_map import drop
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.linear_head import merge_linear_head
from tests.support.golden import NAMES, read_golden, shorten
from tests.support.sampling import Sampler

OUTPUTS = {"x_norm_patchtokens", "logits", "last_hidden_state", "auxiliary_logits", "predicted_depth", "head_depth"}
MAPS = Path("/proc/self/maps")
SMALL = VARIANTS["dinov2_vits14_reg_1layer"]


def test_files_are_the_originals_own_format(tmp_path: Path) -> None:
    paths = write_synthetic_checkpoint(SMALL, tmp_path, seed=0)
    assert {role: path.name for role, path in paths.items()} == {
        "checkpoint": "dinov2_vits14_reg4_pretrain.pth",
        "linear_head": "dinov2_vits14_reg4_linear_head.pth",
    }
    family = load_family("dinov2")
    shapes = family.original_shapes(family.spec_of(SMALL))
    backbone, head = load_checkpoint(paths["checkpoint"]), load_checkpoint(paths["linear_head"])
    found = backbone | {f"linear_head.{key}": tensor for key, tensor in head.items()}
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_files_are_the_same_twice_and_differ_by_seed(tmp_path: Path) -> None:
    hashes = []
    for index, seed in enumerate((0, 0, 1)):
        directory = tmp_path / str(index)
        directory.mkdir()
        hashes.append(hash_file(write_synthetic_checkpoint(VARIANTS["dinov2_vits14"], directory, seed)["checkpoint"]))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_classifier_stands_on_its_backbones_own_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    classifier = write_synthetic_checkpoint(SMALL, tmp_path / "a", 0)["checkpoint"]
    backbone = write_synthetic_checkpoint(VARIANTS[SMALL.backbone], tmp_path / "b", 0)["checkpoint"]
    assert hash_file(classifier) == hash_file(backbone)


def test_a_tensor_depends_on_seed_variant_and_key_alone() -> None:
    golden = read_golden("dinov2_tiny")
    together = draw_state_dict(golden.family, golden.spec, "variant", 0)
    like, key = together["blocks.1.norm1.bias"], "blocks.1.norm1.bias"
    alone = draw_tensor("0/variant", key, like)
    assert is_bit_equal(like, alone)
    others = [together["blocks.0.norm1.bias"], draw_tensor("1/variant", key, like), draw_tensor("0/other", key, like)]
    assert not any(is_bit_equal(alone, other) for other in others)


@pytest.mark.parametrize(
    ("key", "shape", "mean", "std"),
    [
        ("blocks.0.attn.qkv.weight", (300, 400), 0.0, 1 / 20),
        ("patch_embed.proj.weight", (300, 4, 10, 10), 0.0, 1 / 200),
        ("patch_embed.proj.bias", (40000,), 0.0, 0.02),
        ("blocks.0.attn.qkv.bias", (40000,), 0.0, 0.2),
        ("blocks.0.norm1.weight", (40000,), 1.0, 0.1),
        ("norm.weight", (40000,), 1.0, 0.1),
        ("norm.bias", (40000,), 0.0, 0.2),
        ("blocks.0.ls1.gamma", (40000,), 0.55, 0.3 / 12**0.5),
        ("pos_embed", (1, 200, 200), 0.0, 0.5),
        ("cls_token", (1, 1, 40000), 0.0, 0.5),
        ("register_tokens", (1, 4, 10000), 0.0, 0.5),
        ("linear_head.bias", (40000,), 0.0, 0.2),
        ("blocks.0.gamma_1", (40000,), 0.55, 0.3 / 12**0.5),
        ("rel_pos_bias.relative_position_bias_table", (400, 100), 0.0, 1.0),
        ("blocks.0.attn.q_bias", (40000,), 0.0, 0.2),
        ("backbone.fpn1.0.weight", (400, 25, 2, 2), 0.0, 1 / 20),
        ("backbone.fpn1.1.weight", (40000,), 1.0, 0.1),
        ("decode_head.bottleneck.conv.weight", (100, 100, 2, 2), 0.0, 1 / 20),
        ("decode_head.bottleneck.bn.weight", (40000,), 1.0, 0.1),
        ("decode_head.bottleneck.bn.running_mean", (40000,), 0.0, 0.2),
        ("decode_head.bottleneck.bn.running_var", (40000,), 1.0, 1 / 12**0.5),
    ],
)
def test_tensors_have_their_scale(key: str, shape: tuple[int, ...], mean: float, std: float) -> None:
    distributions = list_distributions(load_family("data2vec_vision"))
    tensor = draw_tensor("0/variant", key, torch.empty(shape), distributions)
    assert float(tensor.mean()) == pytest.approx(mean, abs=5 * std / 40000**0.5)
    assert float(tensor.std()) == pytest.approx(std, rel=0.02)


def test_counters_are_whole_numbers() -> None:
    distributions = load_family("data2vec_vision").training.distributions
    like = torch.tensor(0)
    drawn = {int(draw_tensor(str(seed), "bn.num_batches_tracked", like, distributions)) for seed in range(9)}
    assert len(drawn) > 1
    assert min(drawn) > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_matters_in_the_output(name: str, sampler: Sampler) -> None:
    """Zeroing any tensor changes an output of a tiny model (of qkv.bias, softmax does not see the key's third)."""
    golden = read_golden(name)
    family, spec = golden.family, golden.spec if sampler.is_all else shorten(golden)[0]
    state_dict = draw_state_dict(family, spec, "tiny", 0)
    smallest = min(golden.cases, key=lambda case: case.inputs.pixel_values.numel())
    case = next((case for case in golden.cases if case.inputs.bool_masked_pos is not None), smallest)
    inputs = case.inputs.arguments
    stages = family.list_stages(spec)
    unused = {key for stage in stages if stage.name == "unused" for point in stage.points for key in point.sources}
    weights, _ = drop({key: tensor for key, tensor in state_dict.items() if tensor.is_floating_point()}, family.dropped)
    with torch.inference_mode():
        original = family.load_original(spec, state_dict)
        before = original(**inputs)
        for key, tensor in weights.items():
            if key in unused:
                continue
            kept = tensor.clone()
            tensor.mul_(2 if key == "rope_embed.periods" else 0)  # which divide; the model's own memory, too
            after = original(**inputs)
            tensor.copy_(kept)
            assert (
                max(float((after[output] - before[output]).abs().max()) for output in OUTPUTS & before.keys()) > 1e-3
            ), key


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not tell what is mapped where")
def test_tensors_are_drawn_where_they_lie_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory is taken beside it: a giant's would be 4.5 GB."""
    files: set[str] = set()
    fill = synthetic._fill

    def note(state_dict: dict[str, torch.Tensor], *others: Any) -> None:
        lines = [line.split(maxsplit=5) for line in MAPS.read_text().splitlines()]
        mapped = [(*(int(end, 16) for end in line[0].split("-")), line[5]) for line in lines if len(line) == 6]
        for tensor in state_dict.values():
            files.update(name for start, end, name in mapped if start <= tensor.data_ptr() < end)
        fill(state_dict, *others)

    monkeypatch.setattr(synthetic, "_fill", note)
    paths = write_synthetic_checkpoint(SMALL, tmp_path, seed=0)
    assert files == set(map(str, paths.values()))


@pytest.mark.parametrize("name", ["dinov2_vits14_reg_1layer", "data2vec_vision_base_ft1k"])
def test_a_file_holds_what_is_drawn_in_memory(name: str, tmp_path: Path) -> None:
    variant, family = VARIANTS[name], load_family(VARIANTS[name].family)
    written = {role: load_checkpoint(path) for role, path in write_synthetic_checkpoint(variant, tmp_path, 0).items()}
    drawn = draw_state_dict(family, family.spec_of(variant), name, 0, backbone=variant.backbone)
    found = merge_linear_head(written["checkpoint"], written.get("linear_head"))
    assert all(is_bit_equal(tensor, drawn[key]) for key, tensor in found.items())
    assert found.keys() == drawn.keys()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room in files cannot be asked for")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written to where the disk has no room, a mapped file would end it by a signal: room is asked for beforehand."""

    def allocate(descriptor: int, start: int, size: int) -> None:
        assert (start, size) == (0, os.fstat(descriptor).st_size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    with pytest.raises(OSError, match="No space left"):
        write_synthetic_checkpoint(SMALL, tmp_path, seed=0)
