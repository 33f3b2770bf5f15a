"""Krippendorff's alpha against the values that he published, and the bootstrap against one that resamples unit by unit."""

from __future__ import annotations

import numpy as np
import pytest

from perdure.labeling.agreement import Level, agreement

# Krippendorff (2011), section D: four observers, twelve units, missing values
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
UNITS = [[int(value) for value in unit if value != "."] for unit in zip(*(row.split() for row in OBSERVERS), strict=True)]


@pytest.mark.parametrize(("level", "published"), [(Level.NOMINAL, 0.743), (Level.ORDINAL, 0.815), (Level.INTERVAL, 0.849)])
def test_published_values(level: Level, published: float) -> None:
    found = agreement(UNITS, level)
    assert found.units == 11
    assert found.alpha == pytest.approx(published, abs=5e-4)
    assert found.low is not None
    assert found.high is not None
    assert found.low < published < found.high


def test_two_observers_with_words() -> None:
    """Krippendorff (2011), section B: nominal data, two observers."""
    one, other = "aabbdcccedda", "babbbccceddd"
    assert agreement(list(zip(one, other, strict=True))).alpha == pytest.approx(0.692, abs=5e-4)


def test_raw_agreement_counts_pairs() -> None:
    assert agreement([["a", "a", "b"], ["a", "a"]]).raw == pytest.approx((2 + 2) / (6 + 2))


def test_nothing_to_compare() -> None:
    assert agreement([["a"], ["b"]]).alpha is None
    constant = agreement([["a", "a"], ["a", "a"]])
    assert (constant.raw, constant.alpha) == (1.0, None)


def test_interval_is_that_of_a_bootstrap_over_units() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 300)
    units = [[int(value ^ (random.random() < 0.15)) for _ in range(3)] for value in truth]
    found = agreement(units, samples=2_000)
    spread = [agreement([units[i] for i in random.integers(0, 300, 300)], samples=1).alpha or 0.0 for _ in range(400)]
    assert found.low == pytest.approx(np.quantile(spread, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(spread, 0.975), abs=0.03)
