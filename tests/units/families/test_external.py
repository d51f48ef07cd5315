"""The authors' own code as the reference, from a clone; the clones here are stand-ins."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import conversion
from conversion.artifact.load import load_converted
from conversion.errors import CheckpointError, KeyMapError
from conversion.families.external import BUNDLED, HUB, Projection, Weight, import_isolated, isolated
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import find_explanation
from conversion.parity.metrics import is_bit_equal
from conversion.parity.precision import cast_parameters
from conversion.parity.verdict import Verdict
from conversion.parity.verify import InputVerdict
from conversion.patching import XFORMERS_DISABLED
from conversion.suite.inputs import InputCase, list_inputs
from tests.support.clones import edit_clone, write_clone
from tests.support.golden import ARCHITECTURES, DEPTH, DINOV3, choose_inexact_attention, read_golden, rounds_otherwise
from tests.support.runs import run_original, verify_input

MODELS = tuple(name for name in ARCHITECTURES if not name.endswith("ade20k") and name not in (*DINOV3, *DEPTH))
VIT, FINETUNE = "dinov2/models/vision_transformer.py", "beit/modeling_finetune.py"
CYCLICAL = "beit/modeling_cyclical.py"
REGISTERS = "        num_register_tokens=0, interpolate_antialias=False, interpolate_offset=0.1,\n    ):\n"
NO_REGISTERS = "    ):\n        num_register_tokens, interpolate_antialias, interpolate_offset = 0, False, 0.1\n"

Clones = dict[str, Path]
Fault = Callable[[dict[str, Tensor]], dict[str, Tensor]]
Break = Callable[[Path], None]


@pytest.fixture
def clones(tmp_path: Path) -> Clones:
    return {family: write_clone(family, tmp_path / family) for family in ("dinov2", "data2vec_vision", "beit")}


def observe() -> tuple[object, ...]:
    """What is to stay as it is: modules, paths, settings, and the models in timm's table."""
    names = {name for name in sys.modules if name.startswith(("dinov2", "utils", "hubconf", "modeling_"))}
    settings = sys.dont_write_bytecode, os.environ.get(XFORMERS_DISABLED)
    return names, list(sys.path), settings, importlib.import_module("timm").model_entrypoint("beit_base_patch16_224")


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    before = observe()
    yield
    assert observe() == before


def load(name: str, clone: Path | None) -> nn.Module:
    golden = read_golden(name)
    return golden.family.load_original(golden.spec, golden.state_dict, clone)


def verify(name: str, clone: Path, attention: str, case: InputCase | None = None, fault: Fault = dict) -> InputVerdict:
    """The authors' model and the converted, with synthetic weights, which differ from any default."""
    golden = read_golden(name)
    family, spec, source = golden.family, golden.spec, draw_state_dict(golden.family, golden.spec, name, 0)
    case = case or InputCase("native", spec.image_size, spec.image_size)
    converted = load_converted(conversion.convert(fault(source), **golden.overrides), attention=attention)
    run = run_original(family, spec, family.load_original(spec, source, clone), case)
    return verify_input(case.name, run, converted, family.find_deviation(spec, case.shape))


@pytest.mark.parametrize("name", MODELS)
def test_authors_model_computes_what_the_bundled_does(name: str, clones: Clones) -> None:
    golden = read_golden(name)
    bundled, external = load(name, None), load(name, clones[golden.family.name])
    if golden.spec.task == "image-classification" and not golden.spec.mask_token:
        with pytest.raises(ValueError, match="no mask token"):
            external(torch.zeros(1), torch.zeros(1))
    assert {*external.state_dict()} == {*bundled.state_dict()}
    assert type(external).__module__ != type(bundled).__module__
    for case in golden.cases:
        for dtype in (torch.float32, torch.float64):
            arguments = case.inputs.to("cpu", dtype).arguments
            with torch.inference_mode(), cast_parameters(bundled, dtype), cast_parameters(external, dtype):
                expected, actual = bundled(**arguments), external(**arguments)
            assert expected.keys() <= actual.keys()
            for key, value in expected.items():
                assert is_bit_equal(actual[key], value), f"{case.name}, {dtype}: {key}"


@pytest.mark.parametrize("name", MODELS)
def test_converted_model_is_the_authors_model(name: str, clones: Clones) -> None:
    golden = read_golden(name)
    spec, clone = golden.spec, clones[golden.family.name]
    inexact = 0
    for case in [case for case in list_inputs(spec, spec.image_size, None) if not case.photo and not case.baked]:
        stages = golden.family.list_stages(spec, masked=case.masked)
        deviates = golden.family.find_deviation(spec, case.shape) is not None
        for attention in (golden.family.choose_attention(), choose_inexact_attention(golden.family)):
            result = verify(name, clone, attention, case)
            assert [point.point for point in result.points] == [point.name for s in stages for point in s.points]
            assert all(point.difference for point in result.points)
            assert bool(result.otherwise) == deviates
            is_exact = attention == golden.family.choose_attention() and not rounds_otherwise(name)
            allowed = {Verdict.EXACT} if is_exact else {Verdict.EXACT, Verdict.CLOSE}
            assert {point.verdict for point in result.points} <= allowed
            inexact += sum(point.original_error is not None for point in result.points)
    assert inexact  # held against the authors' model in float64


@pytest.mark.parametrize(("name", "file", "old", "new"), [
    ("dinov2_tiny",               VIT,      "eps=1e-6",         "eps=1e-5"),
    ("data2vec_vision_tiny",      FINETUNE, "(q * self.scale)", "(q * self.scale * 1.001)"),
    ("data2vec_vision_tiny_ft1k", FINETUNE, "bias=bias",        "bias=1.01 * bias"),
])  # fmt: skip
def test_the_reference_is_the_clone(name: str, file: str, old: str, new: str, clones: Clones) -> None:
    family = read_golden(name).family
    attention = family.choose_attention()
    assert verify(name, clones[family.name], attention).verdict is Verdict.EXACT
    edit_clone(file, old, new, clones[family.name])
    assert verify(name, clones[family.name], attention).verdict is Verdict.FAILED


@pytest.mark.parametrize("name", ["dinov2_tiny", "data2vec_vision_tiny"])
def test_a_fault_is_named_with_the_authors_model(name: str, clones: Clones) -> None:
    key = "blocks.1.attn.qkv.weight"

    def exchange(source: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**source, key: torch.cat([source[key].chunk(3)[part] for part in (1, 0, 2)])}

    result = verify(name, clones[read_golden(name).family.name], "eager", fault=exchange)
    assert result.evidence is not None
    assert find_explanation(result.evidence) == f"q and k exchanged in {key}"


def test_a_taken_weight_brings_its_projection_about() -> None:
    linear, seen = nn.Linear(4, 12), []
    projection = Projection(linear.weight)
    projection.register_forward_hook(lambda _module, _args, output: seen.append(output))
    tokens, weight = torch.ones(2, 3, 4), projection.weight
    by_name = F.linear(input=tokens, weight=weight, bias=linear.bias)
    for outcome in (by_name, F.linear(tokens, weight, linear.bias), projection(tokens, linear.bias)):
        assert is_bit_equal(outcome, linear(tokens))
    assert len(seen) == 3
    assert is_bit_equal(F.linear(tokens, weight), F.linear(tokens, linear.weight))
    assert (type(weight), type(weight + 0), weight.data_ptr()) == (Weight, Tensor, linear.weight.data_ptr())
    assert next(iter(projection.parameters())) is linear.weight


def test_an_old_clone_takes_plain_models_only(clones: Clones) -> None:
    edit_clone(VIT, REGISTERS, NO_REGISTERS, clones["dinov2"])
    assert verify("dinov2_tiny", clones["dinov2"], "sdpa").verdict is Verdict.EXACT
    with pytest.raises(CheckpointError, match=r"(?s)does not know what this model needs.*Update the clone") as caught:
        load("dinov2_tiny_reg", clones["dinov2"])
    assert {*caught.value.problems} == {"num_register_tokens=4", "interpolate_offset=0.0", "interpolate_antialias=True"}


def test_building_takes_no_memory_and_is_strict(clones: Clones) -> None:
    for name in ("dinov2_tiny_1layer", "data2vec_vision_tiny"):
        golden = read_golden(name)
        family, clone = golden.family, clones[golden.family.name]
        with torch.device("meta"):
            built = family.build_external(golden.spec, clone)
        assert {tensor.device.type for tensor in built.state_dict().values()} == {"meta"}
        less = {key: tensor for key, tensor in golden.state_dict.items() if key != "blocks.0.attn.qkv.weight"}
        with pytest.raises(KeyMapError, match=r"missing: blocks\.0\.attn\.qkv\.weight"):
            family.load_original(golden.spec, less, clone)
        with pytest.raises(KeyMapError, match="unexpected: extra"):
            family.load_original(golden.spec, {**golden.state_dict, "extra": torch.zeros(1)}, clone)


def test_feed_forward_has_the_width_of_the_checkpoint(clones: Clones) -> None:
    golden = read_golden("data2vec_vision_tiny")
    for width in range(110, 120):  # of which floating point gives some as less than 100 times their quotient by it
        spec = replace(golden.spec, embed_dim=100, hidden_dim=width, depth=1)
        with torch.device("meta"):
            model = golden.family.build_external(spec, clones["data2vec_vision"])
        assert model.get_parameter("blocks.0.mlp.fc1.weight").shape[0] == width


def test_two_clones_do_not_mix(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "modeling_names.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
        (tmp_path / name / "modeling_model.py").write_text("from modeling_names import NAME\n", encoding="utf-8")
    for name in ("first", "second", "first"):
        for module in ("modeling_model", "modeling_names"):
            assert vars(import_isolated(tmp_path / name, module))["NAME"] == name


def test_an_installed_package_comes_back(clones: Clones, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {name: ModuleType(name) for name in ("dinov2", "dinov2.layers")}
    for name, module in installed.items():
        monkeypatch.setitem(sys.modules, name, module)
    load("dinov2_tiny", clones["dinov2"])
    assert {name: module for name, module in sys.modules.items() if name.startswith("dinov2")} == installed


def test_a_clone_that_is_imported_already_stays_imported(clones: Clones, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(XFORMERS_DISABLED, "0")
    with isolated(clones["dinov2"]):
        own = importlib.import_module("dinov2.layers")
        module = import_isolated(clones["dinov2"], "dinov2.models.vision_transformer")
        assert module.NestedTensorBlock is own.NestedTensorBlock
        assert sys.modules["dinov2.layers"] is own
        assert "dinov2.models.vision_transformer" not in sys.modules


@pytest.mark.parametrize("value", ["0", None])
def test_nothing_is_written_shown_or_set(value: str | None, clones: Clones, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv(XFORMERS_DISABLED, raising=False)
    if value:
        monkeypatch.setenv(XFORMERS_DISABLED, value)
    edit_clone(VIT, "class Dino", "import warnings\nwarnings.warn('xFormers')\n\n\nclass Dino", clones["dinov2"])
    before = {family: set(clone.rglob("*")) for family, clone in clones.items()}
    with warnings.catch_warnings(action="error"):
        for name in MODELS:
            load(name, clones[read_golden(name).family.name])
        load("data2vec_vision_tiny", clones["data2vec_vision"] / "beit")  # the modules' own folder will do, too
    assert {family: set(clone.rglob("*")) for family, clone in clones.items()} == before
    assert (os.environ.get(XFORMERS_DISABLED), sys.dont_write_bytecode) == (value, False)
    assert sys.modules["timm.models.registry"].register_model is importlib.import_module("timm.models").register_model
    assert not [entry for entry in sys.path_importer_cache if str(clones["dinov2"]) in entry]


@pytest.mark.parametrize(
    ("name", "fault", "message"),
    [
        ("dinov2_tiny", lambda clone: (clone / VIT).unlink(), f"has no {VIT}.*Give the folder that has {VIT}"),
        ("data2vec_vision_tiny", lambda clone: (clone / CYCLICAL).unlink(), "beit has no modeling_cyclical.py"),
        ("data2vec_vision_tiny", partial(edit_clone, FINETUNE, "import torch\n", "import apex_of_old\n"),
         "modeling_cyclical cannot be imported.*No module named 'apex_of_old'.*Install what is missing"),
        ("dinov2_tiny", partial(edit_clone, VIT, "import torch\n", "import torch as\n"),
         "dinov2.models.vision_transformer cannot be imported.*SyntaxError"),
        ("dinov2_tiny", partial(edit_clone, VIT, "DinoVisionTransformer", "Fork"),
         "has no class DinoVisionTransformer"),
        ("data2vec_vision_tiny_ft1k", partial(edit_clone, FINETUNE, "use_mean_pooling=True, ", ""),
         "does not know what this model needs.*use_mean_pooling=True"),
        ("dinov2_tiny", partial(edit_clone, VIT, "block_chunks == 0", "block_chunks"),
         "cannot be built.*AssertionError"),
    ],
)  # fmt: skip
def test_a_clone_of_no_use_is_refused(name: str, fault: Break, message: str, clones: Clones) -> None:
    clone = clones[read_golden(name).family.name]
    fault(clone)
    with pytest.raises(CheckpointError, match=f"(?s){message}") as caught:
        load(name, clone)
    assert str(clone) in caught.value.headline


@pytest.mark.parametrize(("name", "mask_token", "message"), [
    ("data2vec_vision_tiny_ade20k", False, "segmentation.*--original bundled"),
    ("data2vec_vision_tiny_ft1k",   True,  "a classifier with a mask token"),
    ("data2vec_vision_tiny",        False, "a pretrained model without a mask token"),
])  # fmt: skip
def test_what_the_authors_have_not_is_refused(name: str, mask_token: bool, message: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        golden.family.build_external(replace(golden.spec, mask_token=mask_token), tmp_path)


def test_original_is_bundled_a_path_or_the_hubs(clones: Clones, tmp_path: Path) -> None:
    dinov2, data2vec_vision = read_golden("dinov2_tiny").family, read_golden("data2vec_vision_tiny").family
    assert dinov2.find_clone(BUNDLED) is None
    assert dinov2.find_clone(str(clones["dinov2"])) == clones["dinov2"]
    with pytest.raises(CheckpointError, match=r'nowhere is no folder\.\nGive a clone\'s path, "hub" or "bundled"'):
        dinov2.find_clone(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"data2vec_vision is not on torch\.hub\.\nGive the path of a clone"):
        data2vec_vision.find_clone(HUB)


@pytest.mark.parametrize("fault", ["", "import mmcv_of_old\n"])
def test_hub_gives_its_clone(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lists its models need not run: only the code is wanted."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv(XFORMERS_DISABLED, "1")
    kept = write_clone("dinov2", tmp_path / "hub" / "facebookresearch_dinov2_main")
    edit_clone("hubconf.py", "import dinov2", f"{fault}import dinov2", kept)
    before = set(kept.rglob("*"))
    assert read_golden("dinov2_tiny").family.find_clone(HUB) == kept
    assert set(kept.rglob("*")) == before


def test_hub_that_is_not_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "list", Mock(side_effect=URLError("no network")))
    with pytest.raises(CheckpointError, match=r"(?s)could not fetch.*no network.*clone https://github\.com/facebook"):
        read_golden("dinov2_tiny").family.find_clone(HUB)
