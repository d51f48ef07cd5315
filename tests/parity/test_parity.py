"""The main job: original and converted model are the same model. What passes here becomes the artifact."""

import pytest

from conversion.parity.diagnosis import describe_failure
from conversion.parity.verdict import Verdict
from conversion.suite.exported import find_unwanted_loss, verify
from conversion.suite.reporting import find_lost_exactness, keep_for_report
from conversion.suite.rows import keep_row
from conversion.suite.subject import Subject
from conversion.suite.summary import describe_cell


def test_parity(
    subject: Subject,
    device: str,
    dtype: str,
    attention: str,
    request: pytest.FixtureRequest,
) -> None:
    """The model that loads from the written files computes what the original computes, at every capture point.

    Levels 1 and 2, keys and tensors, are proven before the artifact is staged; levels 3 and 4 here. A base model of
    DINOv2 takes half a minute if it is named: all its blocks at 518 pixels, and its classifier beside it. So does the
    large segmentation model: its head's convolutions in float64.
    """
    with subject.passing(request.node):
        cell = verify(subject, (device, dtype, attention))
        sizes = subject.describe_sizes(cell)
        keep_row(request.node, describe_cell(subject.variant, cell, subject.remarks, subject.claim, sizes))
        message = describe_failure(subject.variant, f"{device}, {dtype}, {attention}", cell.inputs)
        keep_for_report(request.node, subject, cell)
        if cell.verdict is Verdict.FAILED:
            pytest.fail(message, pytrace=False)
        if loss := find_unwanted_loss(cell, subject.request.bounds):
            pytest.fail(loss, pytrace=False)
        if subject.request.require_exact and (reason := find_lost_exactness(subject, cell)):
            pytest.fail(f"{reason}\n{message}", pytrace=False)
        subject.verdicts.append(cell)
