"""Krippendorff's alpha against the values that he published, and the bootstrap against one that resamples unit by unit."""

from __future__ import annotations

import numpy as np
import pytest

from perdure.labeling.agreement import BLOCKS, Level, Reliability, agreement

# Krippendorff (2011), section D: four observers, twelve units, missing values
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
UNITS = [[int(value) for value in unit if value != "."] for unit in zip(*(row.split() for row in OBSERVERS), strict=True)]


@pytest.mark.parametrize(("level", "published"), [(Level.NOMINAL, 0.743), (Level.INTERVAL, 0.849)])
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


@pytest.mark.parametrize("level", Level)
def test_very_many_units_are_resampled_in_blocks(level: Level) -> None:
    """The interval is as wide as that of a bootstrap over single units, though those are not in memory."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 4, 4_000)
    units = [[int(value + (random.random() < 0.3)) for _ in range(2)] for value in truth]
    gathered = Reliability(level)
    for unit in units:
        gathered.add(unit)
    assert len(gathered._blocks) == BLOCKS
    found = gathered.agreement()
    assert found.alpha == pytest.approx(agreement(units[::-1], level, samples=1).alpha, abs=1e-9)
    spread = [agreement([units[i] for i in random.integers(0, 4_000, 4_000)], level, samples=1).alpha or 0.0 for _ in range(60)]
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(spread), rel=0.35)


def test_numbers_that_cannot_be_squared_have_no_alpha() -> None:
    assert agreement([[1e300, -1e300], [1.0, 2.0]], Level.INTERVAL).alpha is None
    far = agreement([[1e9, 1e9 + 1], [1e9 + 5, 1e9 + 6]], Level.INTERVAL).alpha
    assert far == pytest.approx(agreement([[0, 1], [5, 6]], Level.INTERVAL).alpha, abs=1e-9)
