"""What a report says first: the two answers and the fix, or the cause of a failure."""

import re
from dataclasses import replace

import pytest

from conversion.artifact.answer import Judged
from conversion.parity.diagnosis import UNEXPLAINED
from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.headlines import Headlines, describe_conversion, write_headlines
from conversion.report.matrix import build_matrix
from conversion.report.records import LOST_EXACTNESS, Record, Result, read_error
from conversion.report.render import render_report
from tests.support.reports import NOW
from tests.support.verified import fail, pick

EPS = "layer norm eps 1e-05, original 1e-06"
EXPLAINED = (
    f"tiny (cpu, float32, sdpa): not the same model.\n  native: failed\n    explained  by {EPS}\n  masked: close"
)
OFF = PointVerdict("block.0.norm1", Verdict.FAILED, Distance(2.6e-5, 3e-6), reason="RMS error 3e-06 exceeds 8e-07")
CRASHED = Result("dinov2_vits14", "cpu", "float32", "sdpa", "official weights", message="worker 'gw0' crashed")


def say(*results: Result) -> Headlines:
    _, (model,) = build_matrix(results)
    return write_headlines(model)


def show(*results: Result) -> str:
    """The first screen of a page, a line of text each line."""
    page = render_report(Record((), results), NOW)
    return page[page.index("<header>") : page.index("</header>")]


def head(*results: Result) -> str:
    page = render_report(Record((), results), NOW)
    return page[page.index("<title>") + 7 : page.index("</title>")]


def test_what_passed_has_both_answers_the_fix_and_lines_to_load_it(gathered: Record) -> None:
    said = say(pick(gathered, "eager"), pick(gathered, "sdpa"))
    assert said.answer
    assert [cell.attention for cell in said.answer.conversion] == ["eager", "sdpa"]
    assert said.conversion == f"{describe_conversion(said.answer.conversion)} {said.answer.condition}"
    assert (
        "This holds if interpolate_antialias false, interpolate_offset 0.1, num_attention_heads 2 are"
        in said.conversion
    )
    assert "position-embeddings-offset, off by " in said.otherwise
    assert "convert with --image-size" in said.fix
    assert any(".from_pretrained(" in line for line in said.usage)
    assert (said.cause, said.place, said.remark) == ("", "", "")
    screen = show(pick(gathered, "eager"))
    assert "is the same model</h1>" in screen
    assert "Yes, close with eager: rounding alone" in screen


def test_one_model_has_neither_matrix_nor_filters(gathered: Record) -> None:
    one = render_report(Record((), (pick(gathered, "eager"), pick(gathered, "sdpa"))), NOW)
    assert 'id="matrix-table"' not in one
    assert "<form" not in one
    several = render_report(gathered, NOW)
    assert 'id="matrix-table"' in several
    assert "<form" in several
    assert 'name="verdict"' not in several  # all have the same


def test_random_weights_are_told_in_large_letters(gathered: Record) -> None:
    one = pick(gathered, "sdpa")
    assert one.card
    source = {**one.card["source"], "weights": "synthetic", "seed": 3}
    drawn = replace(one, card={**one.card, "source": source}, origin="random weights, seed 3")
    assert say(drawn).is_random
    assert '<p class="random"><b>random weights, seed 3</b>' in show(drawn)
    assert not say(one).is_random
    assert 'class="random"' not in show(one)
    assert say(replace(CRASHED, origin="random weights, seed 0")).is_random
    mixed = render_report(Record((), (drawn, CRASHED)), NOW)
    assert '<small class="random-tag">random weights, seed 3</small>' in mixed
    assert 'class="random"' not in mixed


def test_the_known_fault_is_the_headline(gathered: Record) -> None:
    one = fail(pick(gathered, "sdpa"), OFF, EXPLAINED)
    said = say(one)
    assert said.cause == EPS
    assert said.place == "first differs at block.0.norm1, input native: off by up to 2.60e-05"
    assert (said.fix, said.usage) == ("", ())
    assert head(one) == f"dinov2_custom failed: {EPS}"
    screen = show(one)
    assert screen.index("1e-05") < screen.index("dinov2_<wbr>custom") < screen.index("first differs at block.0.norm1")
    assert "is the same model" not in screen


def test_a_known_fault_of_one_cell_explains_the_others(gathered: Record) -> None:
    lost = replace(pick(gathered, "eager"), card=None, message="it crashed")
    assert say(lost, fail(pick(gathered, "sdpa"), OFF, EXPLAINED)).cause == EPS


def test_without_a_known_fault_the_headline_is_the_place(gathered: Record) -> None:
    one = fail(pick(gathered, "sdpa"), OFF, f"not the same model\n    explained  by {UNEXPLAINED}")
    assert say(one).cause == "first differs at block.0.norm1, input native: off by up to 2.60e-05"
    assert show(one).count("first differs") == 1
    shapeless = PointVerdict("pixels", Verdict.FAILED, reason="shapes differ: original (1,), converted (2,)")
    assert say(fail(pick(gathered, "sdpa"), shapeless)).cause.endswith("input native: " + shapeless.reason)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("worker 'gw0' crashed", "worker 'gw0' crashed"),
        (
            "\n  def f():\n>     g()\nE   ConversionError: no way\nE   to convert\n\na.py:3: Error",
            "ConversionError: no way",
        ),
        ("Every E counts\nE", "Every E counts"),
        ("", ""),
    ],
)
def test_what_was_not_compared_says_what_went_wrong(message: str, cause: str) -> None:
    assert read_error(message) == cause
    if message:
        said = say(replace(CRASHED, message=message))
        assert (said.cause, said.conversion, said.otherwise) == (cause, "Nothing was compared.", "")


def test_a_failure_besides_the_comparison_is_no_answer_of_it(gathered: Record) -> None:
    one = replace(pick(gathered, "sdpa"), message="E   AssertionError: not restored")
    assert say(one).cause == "AssertionError: not restored"
    assert "No, " not in show(one)
    assert "Yes, " not in show(one)


def test_lost_exactness_is_remarked_and_no_failure(gathered: Record) -> None:
    one = replace(pick(gathered, "eager"), message=f"{LOST_EXACTNESS} on AVX2; here it is close\ntiny: ...")
    said = say(one)
    assert said.remark == f"{LOST_EXACTNESS} on AVX2; here it is close"
    assert said.cause == ""
    assert said.remark in show(one)


def test_of_several_the_failed_are_counted_and_a_common_cause_is_told(gathered: Record) -> None:
    same = pick(gathered, "sdpa", "data2vec_vision")
    failed = fail(pick(gathered, "sdpa"), OFF, EXPLAINED)
    assert head(same, failed) == f"1 of 2 models failed: {EPS}"
    assert head(same, failed, CRASHED) == "2 of 3 models failed"
    assert head(*gathered.results) == "3 models, each the same as its original"
    page = render_report(Record((), (same, failed)), NOW)
    rows = re.findall(r'<tr data-name="\w+" data-verdict="(\w+)">.*?<td class="short">(.*?)</td>', page, re.DOTALL)
    assert [verdict for verdict, _ in rows] == ["failed", same.verdict]
    assert "layer norm eps" in rows[0][1]
    assert "image-processor-backend" in rows[1][1]


def judge(attention: str, verdict: Verdict, ratio: float = 1.0, dtype: str = "float32", points: int = 224) -> Judged:
    return Judged(attention, "cpu", dtype, verdict, 7, points, ratio)


EXACT, CLOSE = judge("sdpa", Verdict.EXACT), judge("eager", Verdict.CLOSE, 1.079)
OF_CLOSE = "rounding alone, at most 1.08 x the original's own error"


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([EXACT], "exact with sdpa: every bit agrees at 224 points on 7 inputs."),
        ([CLOSE, EXACT], f"exact with sdpa: every bit agrees; close with eager: {OF_CLOSE} (224 points on 7 inputs)."),
        ([CLOSE, judge("sdpa", Verdict.CLOSE, points=9)], f"close with eager and sdpa: {OF_CLOSE}."),
        (
            [judge("eager", Verdict.CLOSE, 1.079, points=96), EXACT],
            "exact with sdpa: every bit agrees (224 points on 7 inputs); "
            f"close with eager: {OF_CLOSE} (96 points on 7 inputs).",
        ),
        (
            [CLOSE, judge("eager", Verdict.CLOSE, dtype="float16")],
            f"close with cpu float32 eager and cpu float16 eager: {OF_CLOSE} (224 points on 7 inputs).",
        ),
        (
            [EXACT, *(judge("eager", Verdict.FAILED, dtype=dtype) for dtype in ("a", "b", "c", "d"))],
            "exact with cpu float32 sdpa: every bit agrees; failed in 4 of 5 cells: it computes something else "
            "(224 points on 7 inputs).",
        ),
    ],
)
def test_all_cells_are_told_in_a_sentence(cells: list[Judged], sentence: str) -> None:
    assert describe_conversion(cells) == sentence
