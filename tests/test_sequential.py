"""Intervals that hold at all looks, and what they rest on."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from perdure.sequential import Arm, against_division, difference


def arm(units: int, mean: float, variance: float = 1.0) -> Arm:
    return Arm(units=units, mean=mean, variance=variance)


def test_the_interval_is_that_of_theorem_2_2() -> None:
    found = difference(arm(1_000, 0.5), arm(1_000, 0.5), alpha=0.05, tightest=2_000)
    rho = math.sqrt((-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 2_000)
    sigma, t = 2.0, 2_000  # of what a unit says about the difference, by inverse probabilities; the means' own spread adds nothing here
    half = sigma * math.sqrt(2 * (t * rho**2 + 1) / (t * rho) ** 2 * math.log(math.sqrt(t * rho**2 + 1) / 0.05))
    assert found.difference == 0
    assert found.high == -found.low == pytest.approx(half, rel=1e-3)


def test_it_is_wider_than_that_of_one_look_and_narrows_with_units() -> None:
    once = NormalDist().inv_cdf(0.975)
    wide = [
        difference(arm(n, 0.0), arm(n, 0.0), alpha=0.05, tightest=4_000).high / math.sqrt(2 / n)
        for n in (100, 1_000, 2_000, 10_000, 1_000_000)
    ]
    assert once < min(wide) == wide[2] < 1.6 * once  # in standard errors: tightest where it was told to be
    assert (
        difference(arm(100, 0), arm(100, 0), alpha=0.05, tightest=4_000).high
        > difference(arm(1_000, 0), arm(1_000, 0), alpha=0.05, tightest=4_000).high
    )
    assert (
        difference(arm(100, 0), arm(100, 0), alpha=0.01, tightest=4_000).high
        > difference(arm(100, 0), arm(100, 0), alpha=0.05, tightest=4_000).high
    )


def test_an_arm_that_shows_no_variance_borrows_that_of_all() -> None:
    """In 500 units of a rate of 1 % there may be none by chance; the other arm knows better."""
    found = difference(arm(500, 0.0, 0.0), arm(4_500, 0.01, 0.0099), alpha=0.05, tightest=4_000)
    assert found.low < 0 < found.high
    assert difference(arm(500, 0.0, 0.0), arm(500, 0.0, 0.0), alpha=0.05, tightest=4_000).high == 0


def test_a_division_by_chance_is_told_from_others() -> None:
    assert against_division(500, 500, 0.5) < 1
    assert against_division(520, 480, 0.5) < 1
    assert against_division(600, 400, 0.5) > 1e6
    assert against_division(100, 900, 0.1) < 1
    assert against_division(0, 0, 0.3) == 1
    assert math.isfinite(against_division(10_000_000, 0, 0.01))
    # it is a fair bet: the mean over all divisions of ten units is 1
    whole = sum(math.comb(10, k) * 0.3**k * 0.7 ** (10 - k) * against_division(k, 10 - k, 0.3) for k in range(11))
    assert whole == pytest.approx(1)
