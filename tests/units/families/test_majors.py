"""Artifacts of one major version of transformers under the other: they load and compute the same, or say why not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import conversion
from conversion.artifact.load import load_image_processor, load_model
from conversion.artifact.weights import WEIGHTS
from conversion.errors import ArtifactError
from conversion.families.target import TRANSFORMERS_MAJORS, transformers_major
from conversion.mapping import key_map
from conversion.parity.metrics import is_bit_equal
from conversion.parity.original_run import OriginalRun
from conversion.parity.verdict import Verdict
from conversion.state_dicts.filled import fill_in
from conversion.state_dicts.folder import CONFIG
from conversion.suite.inputs import open_photo
from tests.support.golden import NAMES, GoldenModel, read_golden, rounds_otherwise
from tests.support.recorded import read_recorded, record
from tests.support.runs import verify_input

OTHER_MAJOR = next(major for major in TRANSFORMERS_MAJORS if major != transformers_major())


def write_as(major: int, golden: GoldenModel, directory: Path) -> None:
    """Write a golden model as that major version of transformers would."""
    for name, content in read_recorded()[golden.name].items():
        version = {"transformers_version": f"{major}.0.0"} if name == CONFIG else {}
        (directory / name).write_text(json.dumps(content | version))
    source = conversion.convert(golden.state_dict, **golden.overrides).source
    converted = key_map.convert(source, golden.family.expand_key_map(golden.spec, major))
    converted |= fill_in(golden.family, golden.spec, source, major)
    save_file({key: tensor.contiguous() for key, tensor in converted.items()}, directory / WEIGHTS, {"format": "pt"})


def test_either_version_writes_what_was_recorded() -> None:
    """Run under both. Record anew, and look at the difference, when one writes something else."""
    assert record() == read_recorded()


@pytest.mark.parametrize("major", TRANSFORMERS_MAJORS)
@pytest.mark.parametrize("name", NAMES)
def test_artifacts_of_either_major_load_and_compute_the_same(name: str, major: int, tmp_path: Path) -> None:
    golden = read_golden(name)
    write_as(major, golden, tmp_path)
    if golden.spec.task == "semantic-segmentation" and major == OTHER_MAJOR:
        with pytest.raises(ArtifactError, match=f"names of transformers {major}; {transformers_major()} is installed"):
            load_model(tmp_path)
        return
    model = load_model(tmp_path, attention=golden.family.choose_attention())
    photo = open_photo(golden.spec)
    processed = load_image_processor(tmp_path)(photo, return_tensors="pt")["pixel_values"][0]
    transform = golden.family.images.build_transform(golden.spec, min(processed.shape[-2:]), as_processor=True)
    assert is_bit_equal(transform(photo), processed)
    original = golden.family.load_original(golden.spec, golden.state_dict)
    native = next(case for case in golden.cases if case.inputs.pixel_values.shape[-1] == golden.config["image_size"])
    run = OriginalRun(original, golden.family.list_stages(golden.spec), native.inputs, torch.float32)
    deviation = golden.family.find_deviation(golden.spec, tuple(native.inputs.pixel_values.shape))
    judged = verify_input("native", run, model, deviation).points
    allowed = {Verdict.EXACT, Verdict.CLOSE} if rounds_otherwise(name) else {Verdict.EXACT}
    assert {point.verdict for point in judged} <= allowed
