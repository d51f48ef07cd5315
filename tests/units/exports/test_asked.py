"""What exports can be asked for, and what is said where they cannot be had."""

import pytest

from conversion.errors import ExportError
from conversion.exports import asked
from conversion.exports.asked import RUNTIMES, Export, check_asked, find_export, parse_export
from conversion.exports.bounds import Bound, find_exceeded, parse_bound


@pytest.mark.parametrize(
    ("text", "label", "dtype", "file"),
    [
        ("onnx", "onnx", "float32", "onnx/model.onnx"),
        ("onnx:float16", "onnx", "float16", "onnx/model_fp16.onnx"),
        ("onnx:int8", "onnx:int8", "float32", "onnx/model_int8.onnx"),
        ("onnx:int8-static", "onnx:int8-static", "float32", "onnx/model_int8_static.onnx"),
        ("openvino:float16", "openvino", "float16", "openvino/openvino_model_fp16.xml"),
        ("torch:bfloat16", "torch", "bfloat16", "exported/model_bf16.pt2"),
    ],
)
def test_a_runtime_and_its_precision_have_a_cell_and_a_file(text: str, label: str, dtype: str, file: str) -> None:
    export = parse_export(text)
    assert (export.cell, export.file) == (("cpu", dtype, label), file)
    assert find_export(export.cell) == export


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flash_attention_2"])
def test_an_attention_implementation_is_no_export(attention: str) -> None:
    assert find_export(("cpu", "float32", attention)) is None


@pytest.mark.parametrize(("text", "said"), [("tensorrt", "none of onnx"), ("openvino:int8", "not 'int8'"), ("", "''")])
def test_what_no_runtime_does_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_export(text)


def test_every_file_is_another() -> None:
    exports = [Export(name, precision) for name, runtime in RUNTIMES.items() for precision in runtime.precisions]
    assert len(exports) == 9
    assert len({export.file for export in exports}) == len({export.cell for export in exports}) == len(exports)


def test_a_runtime_that_is_not_installed_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "find_spec", lambda name: None if name in ("onnxruntime", "openvino") else object())
    with pytest.raises(ExportError) as raised:
        check_asked([parse_export("onnx"), parse_export("openvino")])
    assert "not installed: onnxruntime, openvino." in str(raised.value)
    assert "pip install onnxruntime openvino." in str(raised.value)
    check_asked([parse_export("torch")])


@pytest.mark.parametrize("options", [{"bounds": (Bound("cosine", 0.9),)}, {"opset": 18}, {"normalizes": True}])
def test_what_belongs_to_an_export_is_refused_without_one(options: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="needs --export"):
        check_asked([], **options)  # type: ignore[arg-type]


def test_static_integers_need_pictures() -> None:
    with pytest.raises(ExportError, match="--pictures FOLDER"):
        check_asked([parse_export("onnx:int8-static")])


def test_an_opset_is_of_onnx() -> None:
    with pytest.raises(ExportError, match="applies to an export to ONNX"):
        check_asked([parse_export("torch")], opset=18)


@pytest.mark.parametrize(
    "text", ["cosine", "cosine=x", "cosine=1.5", "ratio=0.5", "top5=0.9", "cosine=nan", "ratio=inf"]
)
def test_a_bound_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parse_bound(text)


def test_bounds_that_are_not_kept_are_named_with_what_was_measured() -> None:
    assert list(find_exceeded({"cosine": float("nan")}, [parse_bound("cosine=0.1")]))  # a NaN keeps nothing
    measured = {"cosine": 0.98, "top1": None, "ratio": 300.0}
    bounds = [parse_bound(text) for text in ("cosine=0.99", "cosine=0.98", "top1=0.5", "ratio=299", "ratio=300")]
    assert list(find_exceeded(measured, bounds)) == [
        "--require cosine=0.99: it is 0.98",
        "--require top1=0.5: this model has no classes",
        "--require ratio=299: it is 300",
    ]
