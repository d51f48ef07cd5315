"""``--export``: a model is written for a runtime, run there, judged, and kept if it is what was asked for."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import conversion
from conversion.cli.app import main
from conversion.errors import ArtifactError
from conversion.exports import onnx_graph, torch_program
from conversion.exports.runs import Run
from conversion.exports.tracing import Traced
from conversion.suite.inputs import open_photo
from tests.support.commands import ROOT, TINY, run
from tests.support.golden import list_options, read_golden

SETTINGS = list_options("dinov2_tiny")
CONVERT = ("convert", "tiny.pth", "-o", "mine", *SETTINGS)

# a fresh process with nothing but the runtime and numpy
ALONE = """
import sys
import numpy
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
pixel_values = numpy.load("pixel_values.npy")
numpy.save("last_hidden_state.npy", session.run(["last_hidden_state"], {"pixel_values": pixel_values})[0])
assert not {"torch", "transformers", "conversion"} & sys.modules.keys()
"""


@pytest.fixture(autouse=True)
def stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def convert(*exports: str, others: tuple[str, ...] = ()) -> int:
    """Convert the tiny model; the exit status."""
    return main([*CONVERT, *(option for export in exports for option in ("--export", export)), *others])


def read_exports(place: Path = Path("mine")) -> list[dict[str, Any]]:
    exports: list[dict[str, Any]] = json.loads((place / "parity.json").read_text())["exports"]
    return exports


def check_no_path_of_this_machine() -> None:
    """In no file of the artifact: it may be published."""
    files = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    for path in [path for path in files if path.suffix == ".pt2"]:
        with zipfile.ZipFile(path) as archive:
            files |= {path / name: archive.read(name) for name in archive.namelist()}
    places = [str(place).encode() for place in (ROOT, sys.prefix, Path.cwd())]
    assert [(path, place) for path, held in files.items() for place in places if place in held] == []


def test_what_torch_exports_is_exact_and_part_of_the_artifact(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("torch") == 0
    assert "exact with torch: every bit agrees" in " ".join(capsys.readouterr().out.split())
    (cell,) = read_exports()
    assert cell["verdict"] == "exact"
    assert [result["shape"][:1] + result["shape"][2:] for result in cell["inputs"]][:3] == [
        [1, 70, 70],
        [3, 98, 98],
        [1, 56, 98],
    ]
    assert list(cell["exported"]["files"]) == ["exported/model.pt2"]
    check_no_path_of_this_machine()
    conversion.verify_artifact("mine")
    card = Path("mine/README.md").read_text()
    loaded = card[card.index("import torch\n") :].partition("```")[0].replace("path/to/dinov2_custom", "mine")
    scope: dict[str, Any] = {"pixel_values": torch.zeros(2, 3, 70, 70)}
    exec(loaded, scope)
    assert scope["outputs"]["last_hidden_state"].shape == (2, 26, 32)
    program = Path("mine/exported/model.pt2")
    program.write_bytes(program.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"exported/model\.pt2: SHA-256"):
        conversion.check_card("mine")
    program.unlink()
    with pytest.raises(ArtifactError, match=r"exported/model\.pt2: not there"):
        conversion.check_card("mine")


def test_a_file_that_nobody_exported_is_named() -> None:
    assert convert() == 0
    Path("mine/onnx").mkdir()
    Path("mine/onnx/model.onnx").touch()
    with pytest.raises(ArtifactError, match=r"onnx/model\.onnx: the card says nothing of it"):
        conversion.check_card("mine")


def test_runtimes_are_judged_and_integers_are_lossy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    export, graphs = torch.onnx.export, []
    monkeypatch.setattr(
        torch.onnx, "export", lambda *args, **kwargs: graphs.append(export(*args, **kwargs)) or graphs[-1]
    )
    assert convert("onnx", "openvino", "onnx:int8", others=("--report", "page.html", "--normalize")) == 0
    assert len(graphs) == 1  # for all three
    output = " ".join(capsys.readouterr().out.split())
    whole, openvino, integers = read_exports()
    assert {whole["verdict"], openvino["verdict"]} <= {"exact", "close"}
    assert integers["verdict"] == "lossy"
    assert max(result["error_ratio"] for result in integers["inputs"]) > 1000
    assert "lossy with onnx:int8: less precise: " in output
    assert "most of it arises in block." in output  # convolutions stay in float32
    assert openvino["exported"]["settings"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert {cell["exported"]["input"] for cell in read_exports()} == {"images"}
    assert json.loads(Path("mine/parity.json").read_text())["verdict"] == "close"
    conversion.verify_artifact("mine")
    check_no_path_of_this_machine()
    page = Path("page.html").read_text()
    assert main(["report", "mine", "-o", "all.html"]) == 0
    assert "all.html: 1 model, 1 close" in capsys.readouterr().out
    assert main(["diff", "mine", "mine"]) == 0
    assert [name for name in ("onnx", "openvino", "onnx:int8") if f"cpu, float32, {name}" not in page] == []
    files = sorted(path.relative_to("mine").as_posix() for path in Path("mine").rglob("*") if path.is_file())
    assert [name for name in files if "/" in name] == [
        "onnx/model.onnx",
        "onnx/model_int8.onnx",
        "openvino/openvino_model.bin",
        "openvino/openvino_model.xml",
    ]


def lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program that torch exports compute something else, by a thousandth."""
    build = torch_program.build_run

    def build_other(program: torch.export.ExportedProgram) -> Run:
        run = build(program)
        return lambda pixel_values: {name: value * 1.001 for name, value in run(pixel_values).items()}

    monkeypatch.setattr(torch_program, "build_run", build_other)


def test_what_is_lossy_and_was_not_meant_to_be_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(monkeypatch)
    others = ("--require", "cosine=0.999", "--report", "page.html")  # which a cosine would not show
    assert convert("torch", others=others) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "lossy with torch: less precise: " in output
    assert "It is not kept. To keep it, say how much its error may be: --require ratio=" in output
    assert output.endswith("The same model, but an export is not what was asked for. Nothing was saved.")
    assert not Path("mine").exists()
    page = Path("page.html").read_text()
    assert "<title>dinov2_custom is the same model, but an export is not what was asked for</title>" in page
    first = page[page.index("<header>") : page.index("</header>")]
    assert "It is not kept. To keep it" in first
    assert "<dd>Yes, exact with sdpa" in first


def test_its_user_says_what_it_has_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch)
    assert convert("torch", others=("--require", "ratio=1e6", "--require", "cosine=1")) == 1
    assert convert("torch", others=("--require", "ratio=1e6", "--require", "cosine=0.999")) == 0
    assert read_exports()[0]["verdict"] == "lossy"
    conversion.verify_artifact("mine")


def test_a_full_disk_is_said_once_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", fill)
    assert convert("torch") == 2
    said = capsys.readouterr().err
    assert said.count("model.pt2: cannot be written: [Errno 28] No space left on device") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["head.pth", "tiny.pth"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    assert convert("torch") == 2
    assert "bytes while it is written; 1,000 are free." in capsys.readouterr().err


def test_what_a_runtime_does_not_take_is_said_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    write = onnx_graph.write_tapped

    def write_other(traced: Traced, path: Path, opset: int | None = None) -> int:
        import onnx

        version = write(traced, path, opset)
        graph = onnx.load(path)
        graph.graph.node[-1].op_type = "Nonesuch"
        onnx.save(graph, path)
        return version

    monkeypatch.setattr(onnx_graph, "write_tapped", write_other)
    assert convert("onnx") == 2
    said = capsys.readouterr().err
    assert "model.onnx: ONNX Runtime does not take it." in said
    assert "Nonesuch" in said
    assert not Path("mine").exists()


def test_an_opset_that_torch_cannot_write_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert convert("onnx", others=("--opset", "5")) == 2
    assert "in place of 5." in capsys.readouterr().err
    assert not Path("mine").exists()


def test_static_integers_are_calibrated_on_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    Path("pictures").mkdir()
    assert convert("onnx:int8-static", others=("--pictures", "pictures")) == 2
    assert "--pictures pictures: there are no pictures in it." in capsys.readouterr().err
    for side in (200, 300):
        open_photo().resize((side, side)).save(f"pictures/{side}.png")
    assert convert("onnx:int8-static", others=("--pictures", "pictures", "--require", "cosine=0.9")) == 0
    (cell,) = read_exports()
    assert cell["verdict"] == "lossy"
    assert cell["exported"]["pictures"]["count"] == 2
    (cosine,) = cell["exported"]["pictures"]["likeness"]["returned.last_hidden_state"]
    assert 0.9 < cosine < 1
    Path("pictures/broken.png").write_bytes(b"no picture")
    assert convert("onnx:int8-static", others=("--pictures", "pictures")) == 2
    assert "pictures/broken.png: cannot be read as a picture" in capsys.readouterr().err
    assert json.loads(Path("mine/parity.json").read_text())["exports"] == [cell]  # what was there is as it was


def test_pytest_keeps_it_too(here: Path) -> None:
    code, output = run(here, *TINY, "--export=torch", "--save-artifacts")
    assert code == pytest.ExitCode.OK, output
    assert any(line.split()[1:5] == ["cpu", "float32", "torch", "exact"] for line in output.splitlines())
    (card,) = (here / "artifacts").glob("*/parity.json")
    assert [cell["attention"] for cell in json.loads(card.read_text())["exports"]] == ["torch"]


def test_onnx_runtime_alone_gives_the_recorded_output() -> None:
    pytest.importorskip("onnxruntime")
    assert convert("onnx") == 0
    cases = {case.name: case for case in read_golden("dinov2_tiny_1layer").cases}
    recorded = cases["70x70"]  # where transformers does nothing otherwise
    np.save("pixel_values.npy", recorded.inputs.pixel_values.float().numpy())
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "mine/onnx/model.onnx"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    actual = torch.from_numpy(np.load("last_hidden_state.npy"))
    torch.testing.assert_close(
        actual[:, 0].double(), recorded.outputs["x_norm_clstoken"].double(), rtol=1e-4, atol=1e-4
    )
