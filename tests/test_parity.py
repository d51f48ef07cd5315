"""The main job: original and converted model are the same model. What passes here becomes the artifact."""

from collections.abc import Callable

import pytest

from conversion.artifact import read_config, read_tensors
from conversion.parity.metrics import is_bit_equal
from conversion.parity.verdict import Verdict, worst
from conversion.parity.verify import describe_failure
from conversion.state_dict import restore
from tests.subject import Subject


def test_tensors(subject: Subject) -> None:
    """Level 2: the artifact on disk, restored, is the checkpoint, bit for bit."""
    with subject.passing("tensors"):
        restored = restore(read_tensors(subject.staged.directory), read_config(subject.staged.directory))
        source = subject.converted.source
        assert source
        assert restored.keys() == source.keys()
        assert [key for key in source if not is_bit_equal(source[key], restored[key])] == []


def test_parity(
    subject: Subject, device: str, dtype: str, attention: str, record_property: Callable[[str, object], None]
) -> None:
    """Levels 3 and 4: the model loaded back computes what the original computes, at every capture point."""
    with subject.passing(f"{device}-{dtype}-{attention}"):
        cell = subject.verify(device, dtype, attention)
        subject.verdicts.append(cell)
        record_property("verdicts", {result.name: str(result.verdict) for result in cell.inputs})
        record_property("max_ulp", max(result.max_ulp for result in cell.inputs))
        record_property("error_ratio", max(result.error_ratio for result in cell.inputs))
        points = subject.family.capture_points(subject.converted.spec)
        message = describe_failure(subject.variant, f"{device}, {dtype}, {attention}", cell.inputs, points)
        if cell.verdict is Verdict.FAILED:
            pytest.fail(message, pytrace=False)
        if subject.request.require_exact and (device, dtype, attention) in subject.family.exact:
            judged = [point.verdict for result in cell.inputs for point in result.decisive]
            if worst(judged) is not Verdict.EXACT:
                pytest.fail(f"exact was reached here before\n{message}", pytrace=False)
