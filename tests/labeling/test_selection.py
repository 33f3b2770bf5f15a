"""Which rows people are asked about."""

from __future__ import annotations

import numpy as np
import pytest

from perdure.labeling.rounds import worth_more
from perdure.labeling.selection import Strategy, select, uncertainty

SURE_TO_UNSURE = np.array([[0.99, 0.01, 0.0], [0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize("strategy", [Strategy.MARGIN, Strategy.ENTROPY, Strategy.LEAST_CONFIDENCE])
def test_uncertainty_grows_to_one(strategy: Strategy) -> None:
    found = uncertainty(SURE_TO_UNSURE, strategy)
    assert (np.diff(found) >= 0).all()
    assert found[-1] == pytest.approx(1)
    assert uncertainty(np.array([[1.0, 0.0, 0.0]]), strategy)[0] == pytest.approx(0)
    assert select(SURE_TO_UNSURE, 2, strategy, random_share=0).unsure.tolist()[-1] in (3, 4)


def test_margin_looks_at_the_two_most_likely_classes() -> None:
    assert uncertainty(np.array([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]]), Strategy.MARGIN) == pytest.approx([1.0, 0.8])


def test_random_slice_is_unbiased_and_apart() -> None:
    probabilities = np.column_stack([np.linspace(0, 1, 1_000), np.linspace(1, 0, 1_000)])
    drawn = np.zeros(1_000)
    for seed in range(300):
        chosen = select(probabilities, 100, Strategy.MARGIN, random_share=0.2, seed=seed)
        assert len(set(chosen.unsure) | set(chosen.random)) == 100
        assert len(chosen.random) == 20
        drawn[chosen.random] += 1
    thirds = drawn.reshape(10, 100).sum(axis=1)  # 600 each, where every row is alike
    assert thirds.min() > 500
    assert thirds.max() < 700


def test_diversity_takes_one_of_each_heap() -> None:
    random = np.random.default_rng(0)
    heaps = np.repeat(np.array([[0, 0], [10, 0], [0, 10], [10, 10]]), 25, axis=0) + random.normal(0, 0.1, (100, 2))
    probabilities = np.full((100, 2), 0.5)
    chosen = select(probabilities, 4, Strategy.ENTROPY, features=heaps[random.permutation(100)], random_share=0)
    assert len(chosen.unsure) == 4
    apart = select(probabilities, 20, Strategy.ENTROPY, features=np.zeros((100, 2)), random_share=0)
    assert len(set(apart.unsure)) == 20  # equal rows are still different rows


def test_same_seed_same_rows_and_never_more_than_there_are() -> None:
    probabilities = np.random.default_rng(5).dirichlet([1, 1, 1], 50)
    one, other = (select(probabilities, 80, Strategy.MARGIN, random_share=0.5, seed=3) for _ in range(2))
    assert sorted([*one.unsure, *one.random]) == list(range(50))
    assert (one.unsure == other.unsure).all()
    assert len(select(probabilities, 10, Strategy.RANDOM).random) == 10


def test_stop_rule() -> None:
    assert worth_more([(500, 0.9)], 0.01)
    assert worth_more([(500, 0.9), (600, 0.92)], 0.01)
    assert not worth_more([(500, 0.9), (600, 0.92), (800, 0.93)], 0.01)
    assert not worth_more([(500, 0.9), (500, 0.9)], 0.0)
