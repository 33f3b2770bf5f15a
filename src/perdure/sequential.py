"""Which of two means is greater, looked at as often as one likes: an interval that holds at all looks together, and what it rests on.

A test for one look that is repeated daily finds a difference where there is none in every fifth month. This interval is wide enough for
all looks: with probability 1 - alpha it contains the true difference at each of them. So whoever stops as soon as it excludes zero is wrong
in a share alpha of experiments at most.

Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics 52(6), theorem 2.2, for the difference of two means of units that chance divided (their section 3; Robbins' normal mixture, which
also underlies Johari, Koomen, Pekelis, Walsh (2017), "Peeking at A/B tests"). Asymptotic: it wants a first look with enough units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The units of one arm, each counted once with the mean of its rows: how many, their mean and their sample variance."""

    units: int
    mean: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference of means, and between which values it lies."""

    difference: float
    low: float
    high: float


def difference(one: Arm, other: Arm, *, alpha: float, tightest: int) -> Interval:
    """The mean of *one* less that of *other*, with an interval that holds at all looks together with probability 1 - *alpha*.

    It is tightest for its kind at *tightest* units in all, which is chosen before the first look. Both arms need two units.
    """
    found = one.mean - other.mean
    width = math.sqrt(_variance(one, other)) * _standard_errors(one.units + other.units, alpha, tightest)
    return Interval(difference=found, low=found - width, high=found + width)


def _standard_errors(units: int, alpha: float, tightest: int) -> float:
    """Half the interval's width in standard errors (theorem 2.2; rho by their appendix B.2)."""
    strict = -2 * math.log(alpha)
    spread = units * (strict + math.log(strict + 1)) / tightest  # t rho²
    return math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))


def _variance(one: Arm, other: Arm) -> float:
    """Of the difference: as the arms vary by themselves, or as all units together do, whichever is more.

    An arm that has not shown its rare values yet looks as if it did not vary at all.
    """
    apart = one.variance / one.units + other.variance / other.units
    units = one.units + other.units
    within = (one.units - 1) * one.variance + (other.units - 1) * other.variance
    between = one.units * other.units / units * (one.mean - other.mean) ** 2
    together = (within + between) / (units - 1) * (1 / one.units + 1 / other.units)
    return max(apart, together)


def against_division(one: int, other: int, share: float) -> float:
    """How strongly *one* and *other* units speak against a division by chance in which each falls to the first with probability *share*.

    The probability, under such a division, that this is ever exceeded by 1 / p is at most p, at all looks together: a likelihood ratio
    against all other shares, mixed evenly. Lindon, Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS 35.
    """
    mixed = math.lgamma(one + 1) + math.lgamma(other + 1) - math.lgamma(one + other + 2)
    return math.exp(min(700.0, mixed - one * math.log(share) - other * math.log1p(-share)))
