"""A sample has each sort of case in it, is the same for the same seed, and in time has every case in it."""

import pytest

from tests.support.sampling import SEED, Sampler, choose_seed

CASES = [(kind, index) for kind in "abc" for index in range(20)]


def kind_of(case: tuple[str, int]) -> tuple[str]:
    return (case[0],)


def test_every_sort_is_drawn_once() -> None:
    drawn = Sampler(is_all=False, seed=1).draw(CASES, kind_of)
    assert [kind for kind, _ in drawn] == ["a", "b", "c"]
    assert drawn == Sampler(is_all=False, seed=1).draw(CASES, kind_of)


def test_a_case_of_two_sorts_stands_for_both() -> None:
    pairs = [(first, second) for first in range(8) for second in range(first)]
    for seed in range(20):
        drawn = Sampler(is_all=False, seed=seed).draw(pairs, lambda pair: pair)
        assert {each for pair in drawn for each in pair} == set(range(8))
        assert len(drawn) < 8


def test_in_time_all_have_their_turn() -> None:
    seen = {case for seed in range(500) for case in Sampler(is_all=False, seed=seed).draw(CASES, kind_of)}
    assert seen == set(CASES)


def test_all_are_all() -> None:
    sampler = Sampler(is_all=True, seed=1)
    assert sampler.draw(CASES, kind_of) == CASES
    assert (sampler.count(3, 30), Sampler(is_all=False, seed=1).count(3, 30)) == (30, 3)


def test_the_seed_is_the_date_in_ci_and_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED, raising=False)
    monkeypatch.setenv("CI", "")
    assert choose_seed() == 0
    monkeypatch.setenv("CI", "true")
    assert 2025_01_01 < choose_seed() < 2100_01_01
    monkeypatch.setenv(SEED, "7")
    assert choose_seed() == 7
