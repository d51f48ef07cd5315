"""What is verified side by side: the classifier on a backbone comes to what it comes to alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from conversion import ConversionError
from conversion.intake.synthetic import write_synthetic_checkpoint
from conversion.parity.verdict import Verdict
from conversion.suite import cells
from conversion.suite import subject as subjects
from conversion.suite.cells import verify_cell
from conversion.suite.inputs import InputCase
from conversion.suite.pool import Pool
from conversion.suite.settings import Request
from conversion.suite.subject import Cell, Subject
from tests.support.golden import read_golden

CELLS = [("cpu", "float32", attention) for attention in ("eager", "sdpa")]
INPUTS = [InputCase("native", 70, 70), InputCase("masked", 42, 42, batch=2, masked=True)]


@dataclass
class Tiny(Subject):
    """Of a tiny model, with what is done to it when it is loaded."""

    fault: Callable[[nn.Module], object] = nn.Module.eval

    inputs = INPUTS  # type: ignore[assignment]

    def load(self, *arguments: Any) -> nn.Module:
        model = super().load(*arguments)
        self.fault(model)
        return model


Build = Callable[..., tuple[Tiny, Tiny]]


@pytest.fixture
def build(here: Path) -> Iterator[Build]:
    """Make a backbone and the classifier on it, with a fault of either or without."""
    made: list[Subject] = []

    def build(of_backbone: Any = nn.Module.eval, of_classifier: Any = nn.Module.eval) -> tuple[Tiny, Tiny]:
        known = {"checkpoint": here / "tiny.pth", "overrides": read_golden("dinov2_tiny").overrides}
        head = {"linear_head": here / "head.pth"}
        classifier = Tiny("dinov2_custom", Request(**known, **head), cells=CELLS, fault=of_classifier)
        backbone = Tiny("dinov2_custom", Request(**known), cells=CELLS, classifier=classifier, fault=of_backbone)
        made.extend((backbone, classifier))
        return backbone, classifier

    yield build
    for subject in made:
        subject.close()


def scale(suffix: str, model: nn.Module) -> None:
    """Weights that are not those in the file."""
    name = next(name for name, _ in model.named_parameters() if name.endswith(suffix))
    model.get_parameter(name).data = model.get_parameter(name).data * 1.01


def scale_norm(model: nn.Module) -> None:
    scale("norm1.weight", model)


def scale_head(model: nn.Module) -> None:
    scale("classifier.weight", model)


def give_up(_: nn.Module) -> None:
    raise RuntimeError("this classifier does not run here")


@pytest.mark.parametrize(
    ("cells", "is_thorough", "expected"),
    [
        (CELLS, False, {"eager": ["masked"], "sdpa": ["large", "masked"]}),
        (CELLS, True, {"eager": ["large", "masked"], "sdpa": ["large", "masked"]}),
        (CELLS[:1], False, {"eager": ["large", "masked"]}),
    ],
    ids=["few of the second", "all of both", "all of the only one"],
)
def test_the_second_attention_is_verified_on_few_patches(
    cells: Sequence[Cell], is_thorough: bool, expected: dict[str, list[str]], build: Build
) -> None:
    backbone, _ = build()
    backbone.cells, backbone.classifier = cells, None
    backbone.request = replace(backbone.request, is_thorough=is_thorough)
    backbone.__dict__["inputs"] = [InputCase("large", 112, 112), INPUTS[1]]
    verified = [verify_cell(backbone, cell) for cell in cells]
    assert {cell.attention: [result.name for result in cell.inputs] for cell in verified} == expected


def test_an_error_that_only_both_together_make_is_said(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    verify_beside = cells._verify_beside

    def verify(subjects: list[Subject], cell: Any) -> None:
        if len(subjects) > 1:
            raise MemoryError("two models are too many")
        verify_beside(subjects, cell)

    monkeypatch.setattr(cells, "_verify_beside", verify)
    backbone, _ = build()
    with pytest.warns(RuntimeWarning, match="two models are too many"):
        assert verify_cell(backbone, CELLS[0]).verdict is not Verdict.FAILED


@pytest.mark.parametrize(
    ("of_backbone", "of_classifier"),
    [(nn.Module.eval, nn.Module.eval), (scale_norm, nn.Module.eval), (nn.Module.eval, scale_head)],
    ids=["intact", "faulty backbone", "faulty classifier"],
)
def test_both_come_to_what_each_comes_to_alone(of_backbone: Any, of_classifier: Any, build: Build) -> None:
    backbone, classifier = build(of_backbone, of_classifier)
    beside = [verify_cell(backbone, cell) for cell in CELLS]
    assert sorted(classifier.verified) == CELLS
    assert backbone.originals == {}  # the classifier's computes what it needs
    beside += [verify_cell(classifier, cell) for cell in CELLS]
    backbone, classifier = build(of_backbone, of_classifier)
    backbone.classifier = None
    assert beside == [verify_cell(subject, cell) for subject in (backbone, classifier) for cell in CELLS]
    failed = {cell.verdict for cell in beside[:2]}, {cell.verdict for cell in beside[2:]}
    expected = [is_faulty is not nn.Module.eval for is_faulty in (of_backbone, of_classifier)]
    assert [verdicts == {Verdict.FAILED} for verdicts in failed] == expected


def test_a_classifier_that_does_not_run_leaves_its_backbone_a_verdict(build: Build) -> None:
    backbone, classifier = build(of_classifier=give_up)
    with pytest.warns(RuntimeWarning, match=r"each is verified alone(.|\n)*this classifier does not run here"):
        assert verify_cell(backbone, CELLS[0]).verdict is not Verdict.FAILED
    with pytest.raises(RuntimeError, match="does not run here"):
        verify_cell(classifier, CELLS[0])


def test_a_classifier_that_is_not_to_be_converted_leaves_its_backbone_a_verdict(build: Build, here: Path) -> None:
    (here / "head.pth").write_bytes(b"no head")
    backbone, classifier = build()
    with pytest.warns(RuntimeWarning, match=r"each is verified alone(.|\n)*head\.pth"):
        assert verify_cell(backbone, CELLS[0]).verdict is not Verdict.FAILED
    with pytest.raises(ConversionError, match=r"head\.pth"):
        verify_cell(classifier, CELLS[0])


def test_a_classifier_with_other_inputs_is_verified_by_itself(build: Build) -> None:
    backbone, classifier = build()
    classifier.__dict__["inputs"] = INPUTS[:1]
    verify_cell(backbone, CELLS[0])
    assert not classifier.verified
    assert len(verify_cell(classifier, CELLS[0]).inputs) == 1


def test_a_classifier_is_verified_in_its_own_cells_only(build: Build) -> None:
    backbone, classifier = build()
    classifier.cells = CELLS[:1]
    verify_cell(backbone, CELLS[0])
    assert list(classifier.verified) == CELLS[:1]


def test_an_accelerator_holds_one_model_at_a_time(build: Build) -> None:
    """The meta device stands in for it, on which nothing can be run."""
    backbone, classifier = build()
    cell = ("meta", "float32", "sdpa")
    backbone.cells = classifier.cells = [cell]
    with pytest.raises(RuntimeError, match="meta tensors"):
        verify_cell(backbone, cell)
    assert "converted" not in vars(classifier)


def select(*names: str) -> dict[str, Any]:
    """A test of each variant, as pytest collects them."""
    params = {"device": "cpu", "dtype": "float32", "attention": "sdpa"}
    return {name: [SimpleNamespace(nodeid=name, callspec=SimpleNamespace(params=params))] for name in names}


def test_a_file_that_two_have_in_common_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(variant: Any, *others: Any) -> dict[str, Path]:
        drawn.append(variant.name)
        return write_synthetic_checkpoint(variant, *others)

    monkeypatch.setattr(subjects, "write_synthetic_checkpoint", draw)
    with closing(Pool(Request(), select("dinov2_vits14", "dinov2_vits14_1layer"))) as pool:
        backbone, classifier = pool.take("dinov2_vits14"), pool.take("dinov2_vits14_1layer")
        assert backbone.classifier is classifier
        files = backbone.files["checkpoint"], classifier.files["checkpoint"]
        assert files[0].samefile(files[1])
        assert drawn == ["dinov2_vits14_1layer"]
        pool.drop("dinov2_vits14_1layer")
        assert files[0].exists()  # whichever goes first
        assert not files[1].exists()


def test_a_classifier_that_is_done_with_is_not_made_again() -> None:
    names = ("dinov2_vits14", "dinov2_vits14_1layer")
    with closing(Pool(Request(), select(*names))) as pool:
        for name in reversed(names):
            pool.take(name)
            pool.drop(name)
        assert pool.made == {}


def test_without_links_between_files_both_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("not supported")))
    with closing(Pool(Request(), select("dinov2_vits14", "dinov2_vits14_1layer"))) as pool:
        files = [pool.take(name).files["checkpoint"] for name in pool.tests]
        assert all(file.exists() for file in files)
        assert not files[0].samefile(files[1])


def test_a_backbone_has_no_classifier_that_is_not_asked_for() -> None:
    with closing(Pool(Request(), select("dinov2_vits14", "dinov2_vits14_reg_1layer"))) as pool:
        assert pool.take("dinov2_vits14").classifier is None
        assert list(pool.made) == ["dinov2_vits14"]
