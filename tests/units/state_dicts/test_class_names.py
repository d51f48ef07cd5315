"""The names of classes: those that were given, else a file's; and what is said where they do not fit."""

import pytest

import conversion
from conversion.errors import CheckpointError, VariantError
from conversion.families.told import ToldStateDict
from conversion.state_dicts.convert import Conversion
from tests.support.golden import read_golden

CLASSIFIER, BACKBONE = read_golden("dinov2_tiny_1layer"), read_golden("dinov2_tiny")
COUNT = CLASSIFIER.spec.num_classes
NAMES = tuple(f"cat {index}" for index in range(COUNT))


def convert(
    told: tuple[str, ...] | None, given: tuple[str, ...] | None = None, *, classifier: bool = True
) -> Conversion:
    golden = CLASSIFIER if classifier else BACKBONE
    return conversion.convert(ToldStateDict(golden.state_dict, labels=told), labels=given, **golden.overrides)


def list_remarks(out: Conversion) -> list[str]:
    return [note for note in out.notes if "names" in note and "classes" in note]


def test_a_files_names_are_taken() -> None:
    out = convert(NAMES)
    assert (out.labels, list_remarks(out)) == (NAMES, [])


def test_those_that_were_given_come_first() -> None:
    given = tuple(f"dog {index}" for index in range(COUNT))
    out = convert(NAMES[:-1], given)
    assert (out.labels, list_remarks(out)) == (given, [])


def test_a_file_with_another_number_of_names_is_left_out_and_said() -> None:
    out = convert(NAMES[:-1])
    assert out.labels == tuple(f"LABEL_{index}" for index in range(COUNT))
    assert list_remarks(out) == [f"the file names {COUNT - 1} classes, the model has {COUNT}: its names are left out"]


def test_a_backbone_has_no_use_for_a_files_names() -> None:
    out = convert(NAMES, classifier=False)
    assert out.labels == ()
    assert list_remarks(out) == [f"the file names {COUNT} classes, the model has none: its names are left out"]


def test_none_told_and_none_given() -> None:
    assert convert(None).labels == tuple(f"LABEL_{index}" for index in range(COUNT))
    assert list_remarks(convert(None)) == []
    assert convert(None, classifier=False).labels == ()


def test_names_for_a_model_without_classes_are_refused() -> None:
    with pytest.raises(VariantError) as error:
        convert(None, NAMES, classifier=False)
    assert error.value.headline == "dinov2_custom has no classes; class names were given for it."
    assert error.value.hint == "Leave them out."


def test_given_names_of_another_number_are_refused() -> None:
    with pytest.raises(CheckpointError, match=f"{COUNT - 1} class names were given; the model has {COUNT} classes"):
        convert(None, NAMES[:-1])
