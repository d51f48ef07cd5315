"""``vision-parity compare`` with folders as the official converters write them: what is known to differ is named.

DINOv2's converter takes over every tensor, and the defaults of its config are the original's. Data2Vec-Vision's leaves
defaults that are not: an eps of 1e-12, no mask token, a normalisation with 0.5. Its folders are of 2022: pickled
weights, with the tensors of relative position indices in them, and settings in the names of then.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import conversion
from conversion.artifact.weights import WEIGHTS
from conversion.cli.app import main
from conversion.families.images import IMAGENET_MEAN, IMAGENET_STD
from conversion.families.settings import option_of
from conversion.families.told import write_value
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from tests.support.golden import GoldenModel, read_golden

PICKLED = "pytorch_model.bin"
MASK_TOKEN = "embeddings.mask_token"
HALF = [0.5, 0.5, 0.5]

EPS = (
    f"{CONFIG}: layer_norm_eps: 1e-12, expected 1e-06; known deviation 'layer-norm-eps-default': the config's default "
    "is 1e-12, the original's norms have 1e-6"
)
NO_MASK_TOKEN = (
    f"{CONFIG}: use_mask_token: False, expected True; known deviation 'mask-token-default': by default the model is "
    "built without a mask token, and the checkpoint's is ignored"
)
NORMALISED_BY_HALF = {
    f"{PREPROCESSOR}: image_mean: {HALF}, expected {list(IMAGENET_MEAN)}",
    f"{PREPROCESSOR}: image_std: {HALF}, expected {list(IMAGENET_STD)}",
}


def tell(golden: GoldenModel) -> dict[str, Any]:
    """What no tensor tells of the original; of Data2Vec-Vision's pretraining the authors' normalisation."""
    is_pretrained = golden.name == "data2vec_vision_tiny"
    return {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD} if is_pretrained else golden.overrides


def shape_of(golden: GoldenModel, depth: int) -> dict[str, object]:
    config = golden.config
    return {
        "hidden_size": config["embed_dim"],
        "num_hidden_layers": depth,
        "num_attention_heads": config["num_heads"],
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
    }


def write_dinov2(golden: GoldenModel, out: Conversion, folder: Path, depth_of_default: int | None = None) -> None:
    """As of 2023 and 2024.

    Args:
        depth_of_default: of the config that is made first, and is then given the depth of a larger model.
    """
    from transformers import BitImageProcessor, Dinov2Config, Dinov2WithRegistersConfig

    config_class = Dinov2WithRegistersConfig if golden.config["registers"] else Dinov2Config
    config = config_class(**shape_of(golden, depth_of_default or golden.config["depth"]))
    config.num_hidden_layers = golden.config["depth"]
    config.use_swiglu_ffn = golden.config["ffn"] == "swiglufused"
    fields = {field: value for field, value in config.to_dict().items() if field != "use_mask_token"}  # it came later
    write_config(fields | name_classes(golden), out, folder)
    mean_and_std = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    BitImageProcessor(size={"shortest_edge": 256}, resample=3, **mean_and_std).save_pretrained(folder)
    save_file({key: tensor.clone() for key, tensor in out.state_dict.items()}, folder / WEIGHTS)


def write_data2vec_vision(golden: GoldenModel, out: Conversion, folder: Path) -> None:
    """As of 2022."""
    from transformers import Data2VecVisionConfig

    is_finetuned = bool(golden.spec.num_classes)
    config = Data2VecVisionConfig(
        **shape_of(golden, golden.config["depth"]),
        intermediate_size=golden.spec.hidden_dim,
        use_relative_position_bias=is_finetuned,
        use_shared_relative_position_bias=not is_finetuned,
        use_mean_pooling=is_finetuned,
    )
    write_config(config.to_dict() | {"vocab_size": 8192} | name_classes(golden), out, folder)
    side = golden.config["image_size"]
    settings = {
        "crop_size": 224,
        "do_center_crop": False,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "BeitFeatureExtractor",
        "image_mean": HALF,
        "image_std": HALF,
        "reduce_labels": False,
        "resample": 3,
        "size": side,
    }
    (folder / PREPROCESSOR).write_text(json.dumps(settings))
    kept = {key: tensor.clone() for key, tensor in out.state_dict.items() if key != MASK_TOKEN}
    torch.save(kept | list_indices(golden), folder / PICKLED)


def list_indices(golden: GoldenModel) -> dict[str, Tensor]:
    """The buffers that transformers wrote then, in its names."""
    names = {
        "rel_pos_bias.": "encoder.relative_position_bias.",
        "blocks.": "data2vec_vision.encoder.layer.",
        ".attn.": ".attention.attention.relative_position_bias.",
    }
    indices = {}
    for key, index in golden.family.derive(golden.spec).items():
        for original, converted in names.items():
            key = key.replace(original, converted)
        indices[key] = index.clone()
    return indices


def name_classes(golden: GoldenModel) -> dict[str, object]:
    """As in the file of labels that the converters download, not as here."""
    if not golden.spec.num_classes:
        return {}
    labels = {index: f"tench, Tinca tinca {index}" for index in range(golden.spec.num_classes)}
    return {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}


def write_config(config: Mapping[str, object], out: Conversion, folder: Path) -> None:
    fields = {field: value for field, value in config.items() if field != "dtype"}
    said = {"architectures": [out.architecture], "torch_dtype": "float32", "transformers_version": "4.32.0.dev0"}
    (folder / CONFIG).write_text(json.dumps(fields | said))


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], dict[str, Any]]:
    """Compare a recorded checkpoint with the folder beside it."""

    def compare(name: str) -> dict[str, Any]:
        options = [f"{option_of(setting)}={write_value(value)}" for setting, value in tell(read_golden(name)).items()]
        head = [f"--linear-head={tmp_path / 'head.pth'}"] if (tmp_path / "head.pth").exists() else []
        capsys.readouterr()
        original, folder = str(tmp_path / "original.pth"), str(tmp_path / "official")
        status = main(["compare", original, folder, "--json", *head, *options])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (status == 0) == answer["same"]
        return answer

    return compare


def make(here: Path, name: str, write: Callable[[GoldenModel, Conversion, Path], None]) -> Path:
    golden = read_golden(name)
    torch.save(golden.recorded, here / "original.pth")
    if golden.linear_head:
        torch.save(golden.linear_head, here / "head.pth")
    (here / "official").mkdir()
    write(golden, conversion.convert(golden.state_dict, **tell(golden)), here / "official")
    return here / "official"


@pytest.mark.parametrize(
    "name", ["dinov2_tiny", "dinov2_tiny_1layer", "dinov2_tiny_swiglu", "dinov2_tiny_reg", "dinov2_tiny_reg_1layer"]
)
def test_dinov2_is_the_same_model(name: str, compare: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    make(tmp_path, name, write_dinov2)
    answer = compare(name)
    assert (answer["tensors"], answer["settings"], answer["failure"]) == ([], [], "")
    assert answer["same"]
    assert answer["skipped"] == []
    assert {judged["verdict"] for judged in answer["conversion"]} <= {"exact", "close"}
    otherwise = [] if "reg" in name else ["position-embeddings-offset"]
    assert [each["name"] for each in answer["otherwise"] if each["sizes"]] == otherwise


def test_the_last_stage_of_a_larger_dinov2_is_named(compare: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    """What a backbone returns is settled before the config is given the depth of L or g."""
    make(tmp_path, "dinov2_tiny", lambda golden, out, folder: write_dinov2(golden, out, folder, depth_of_default=2))
    answer = compare("dinov2_tiny")
    assert answer["tensors"] == []
    assert sorted(answer["settings"]) == [
        f"{CONFIG}: out_features: ['stage2'], expected ['stage3']",
        f"{CONFIG}: out_indices: [2], expected [3]",
        f"{CONFIG}: stage_names: ['stem', 'stage1', 'stage2'], expected ['stem', 'stage1', 'stage2', 'stage3']",
    ]
    assert answer["failure"] == ""


def test_what_pretrained_data2vec_vision_lost_is_named(
    compare: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    folder = make(tmp_path, "data2vec_vision_tiny", write_data2vec_vision)
    answer = compare("data2vec_vision_tiny")
    assert answer["tensors"] == [f"missing: {MASK_TOKEN}, from mask_token"]
    assert sorted(answer["settings"]) == sorted([EPS, NO_MASK_TOKEN, *NORMALISED_BY_HALF])
    assert answer["skipped"] == ["masked: not compared, since the model in the folder is built without a mask token"]
    assert "explained  by layer norm eps 1e-12, original 1e-06" in answer["failure"]
    mend(folder, CONFIG, layer_norm_eps=1e-6, use_mask_token=True)
    mend(folder, PREPROCESSOR, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD))
    tensors = torch.load(folder / PICKLED)
    torch.save(tensors | {MASK_TOKEN: read_golden("data2vec_vision_tiny").recorded["mask_token"]}, folder / PICKLED)
    assert compare("data2vec_vision_tiny")["same"], "nothing else differs"


def test_the_eps_of_finetuned_data2vec_vision_is_named(
    compare: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    folder = make(tmp_path, "data2vec_vision_tiny_ft1k", write_data2vec_vision)
    answer = compare("data2vec_vision_tiny_ft1k")
    assert (answer["tensors"], answer["settings"], answer["skipped"]) == ([], [EPS], [])
    assert "explained  by layer norm eps 1e-12, original 1e-06" in answer["failure"]
    mend(folder, CONFIG, layer_norm_eps=1e-6)
    assert compare("data2vec_vision_tiny_ft1k")["same"], "nothing else differs"


def test_another_index_of_relative_positions_is_foreign(
    compare: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """Transformers computes it anew, and says nothing of what is in the file."""
    folder = make(tmp_path, "data2vec_vision_tiny_ft1k", write_data2vec_vision)
    mend(folder, CONFIG, layer_norm_eps=1e-6)
    tensors = torch.load(folder / PICKLED)
    name = next(key for key in tensors if key.endswith("relative_position_index"))
    torch.save(tensors | {name: tensors[name] + 1}, folder / PICKLED)
    answer = compare("data2vec_vision_tiny_ft1k")
    assert answer["tensors"] == [f"foreign: {name}, which the original has nothing for"]


def mend(folder: Path, file: str, **fields: object) -> None:
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | fields))
