"""The way back: what was converted is the original's own checkpoint again, and the original takes it whole."""

from pathlib import Path

import pytest
import torch

import conversion
from conversion.families.variants import VARIANTS
from conversion.parity.metrics import is_bit_equal
from conversion.suite.subject import Subject
from tests.support.commands import run
from tests.support.golden import NAMES, convert, list_options, read_golden


def test_restore(subject: Subject, request: pytest.FixtureRequest) -> None:
    """The written artifact of a variant gives back every tensor of its checkpoint, which loads with nothing missing."""
    with subject.passing(request.node):
        restored, read, spec = subject.restore(), subject.read, subject.converted.spec
        with torch.device("meta"):
            original = subject.family.build_original(spec)
        own = original.state_dict()
        # a head of a user's with another vocabulary is not one that the original could take back
        whole = {key: tensor for key, tensor in read.items() if key in own and tensor.shape == own[key].shape}
        if subject.converted.baked is not None:
            whole |= {key: each for key, each in subject.converted.source.items() if key.endswith("pos_embed")}
        whole |= {key: subject.family.derive(spec)[key] for key in subject.converted.recomputed}
        assert restored.keys() >= whole.keys()
        assert not [key for key, tensor in whole.items() if not is_bit_equal(tensor, restored[key])]
        lacking = [key for key in own if key not in restored]
        is_official = subject.variant in VARIANTS and subject.request.checkpoint is None
        assert not [key for key in lacking if key in whole or is_official]
        # what a checkpoint of a user's does not have, the original need not get from it
        original.load_state_dict(restored, strict=not lacking, assign=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_file_loads_strictly(name: str, tmp_path: Path) -> None:
    golden, out = read_golden(name), convert(name)
    conversion.save_artifact(out, tmp_path / "artifact")
    file, *head = conversion.restore_checkpoint(tmp_path / "artifact", tmp_path / "back.pth")
    content = torch.load(file, weights_only=True)
    entry = golden.family.training.choose_entry(golden.spec)
    state_dict = content[entry] if entry else content
    for path in head:
        separate, content = golden.family.head, torch.load(path)
        state_dict = separate.join(state_dict, content[separate.entry] if separate.entry else content)
    assert state_dict.keys() == golden.state_dict.keys()
    assert all(is_bit_equal(tensor, state_dict[key]) for key, tensor in golden.state_dict.items())
    golden.family.build_original(golden.spec).load_state_dict(state_dict, strict=True)


def test_a_head_of_another_vocabulary_is_no_loss(tmp_path: Path) -> None:
    """The original of that size could not take it; the rest comes back whole."""
    vocabulary, width = 11, read_golden("data2vec_vision_tiny").recorded["cls_token"].shape[-1]
    head = {"lm_head.weight": torch.ones(vocabulary, width), "lm_head.bias": torch.ones(vocabulary)}
    torch.save({"model": {**read_golden("data2vec_vision_tiny").recorded, **head}}, tmp_path / "tiny.pth")
    code, output = run(
        tmp_path,
        "--checkpoint=tiny.pth",
        str(Path(__file__)),
        "-k",
        "test_restore",
        *list_options("data2vec_vision_tiny"),
    )
    assert code == 0, output
