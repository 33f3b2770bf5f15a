"""Distances and tests against published figures, SciPy, and their own promises by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from perdure.monitoring import statistics as st


def test_psi_is_the_sum_over_bins_that_its_definition_says() -> None:
    base, now = np.array([0.1] * 10), np.array([0.08, 0.1, 0.12, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    by_hand = (0.08 - 0.1) * np.log(0.8) + (0.12 - 0.1) * np.log(1.2)
    assert st.psi(now * 1e9, base * 1e9, 0.0) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "bins"), [(200, 200, 10), (1_000, 5_000, 20)])
def test_the_bias_of_psi_is_taken_off(n: int, m: int, bins: int) -> None:
    random = np.random.default_rng(1)
    windows, references = random.multinomial(n, [1 / bins] * bins, 4_000), random.multinomial(m, [1 / bins] * bins, 4_000)
    noise = 1 / n + 1 / m
    raw = st.psi(windows, references, 0.0)
    assert raw.mean() == pytest.approx((bins - 1) * noise, rel=0.1)  # 0.09 for 200 rows and ten bins: most would call that drift
    assert st.psi(windows, references, noise).mean() < 0.5 * raw.mean()


def test_ks_is_scipys_at_the_edges_of_the_bins() -> None:
    random = np.random.default_rng(2)
    one, other = random.normal(size=3_000), random.normal(0.1, size=5_000)
    edges = np.sort(np.concatenate([one, other]))
    counts = [np.histogram(each, [-np.inf, *edges, np.inf])[0] for each in (one, other)]
    expected = stats.ks_2samp(one, other, method="asymp")
    assert st.ks(*counts) == pytest.approx(expected.statistic, abs=1e-3)
    assert st.ks_p(expected.statistic, 1 / 3_000 + 1 / 5_000) == pytest.approx(expected.pvalue, rel=0.1)  # SciPy adds a term for few rows


def test_chi_squared_and_cramers_v_are_scipys() -> None:
    table = np.array([[30, 50, 20], [45, 35, 20]])
    expected = stats.chi2_contingency(table, correction=False)
    square = st.squares(table[0], table[1])
    assert square / (1 / 100 + 1 / 100) == pytest.approx(expected.statistic)
    assert st.chi2_p(square, 3, 1 / 100 + 1 / 100) == pytest.approx(expected.pvalue)
    assert st.cramers_v(table[0], table[1]) == pytest.approx(stats.contingency.association(table, method="cramer"))
    assert st.cramers_v([5, 0], [0, 7]) == 1.0
    assert st.cramers_v([5, 10], [50, 100]) == 0.0


def test_holm_is_that_of_p_adjust() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(p, 'holm')
    assert st.holm([[0.9, 0.8], [0.01, 0.2]]).tolist() == [[1.0, 1.0], [0.02, 0.2]]


def test_days_of_independent_rows_differ_by_nothing() -> None:
    days = np.random.default_rng(3).multinomial(500, [0.1] * 10, 300)
    for test in ("ks", "chi2"):
        assert st.between_days(days, np.arange(300) % 7, test) < 0.15 / 500


@pytest.mark.parametrize("test", ["ks", "chi2"])
def test_days_that_differ_make_a_sample_smaller_but_a_season_does_not(test: str) -> None:
    random = np.random.default_rng(4)
    edges = stats.norm.ppf(np.arange(1, 10) / 10)

    def days(level: np.ndarray) -> np.ndarray:
        below = stats.norm.cdf(edges - level[:, None])
        ends = np.zeros((len(level), 1)), np.ones((len(level), 1))
        return random.multinomial(5_000, np.diff(np.concatenate([ends[0], below, ends[1]], axis=1), axis=1))

    season, phases = np.sin(2 * np.pi * np.arange(280) / 7), np.arange(280) % 7
    quiet = st.between_days(days(season), phases, test)
    noisy = st.between_days(days(season + random.normal(0, 0.2, 280)), phases, test)
    assert quiet < 2e-4
    assert 1 / noisy < 300 < 5_000  # of 5,000 rows a day, these are worth less than 300
    assert st.between_days(days(season), np.zeros(280, dtype=int), test) > 100 * max(quiet, 1e-6)


def test_alarms_without_drift_are_as_rare_as_promised_where_days_differ() -> None:
    random = np.random.default_rng(5)
    edges = stats.norm.ppf(np.arange(1, 20) / 20)
    alarms = []
    for _ in range(150):
        below = stats.norm.cdf(edges - random.normal(0, 0.15, 96)[:, None])
        counts = random.multinomial(2_000, np.diff(np.concatenate([np.zeros((96, 1)), below, np.ones((96, 1))], axis=1), axis=1))
        reference, windows = counts[:56], counts[56:]
        variance = st.between_days(reference, np.zeros(56, dtype=int), "ks")
        noise = 1 / 2_000 + variance + 1 / 112_000 + variance / 56
        alarms.append(st.ks_p(st.ks(windows, reference.sum(axis=0)), noise, 55) < 0.01)
    assert 0.0005 < np.mean(alarms) < 0.02
    naive = st.ks_p(st.ks(windows, reference.sum(axis=0)), 1 / 2_000 + 1 / 112_000) < 0.01
    assert naive.mean() > 0.3  # as if rows were independent


def test_the_closed_form_is_what_drawing_blocks_gives() -> None:
    random = np.random.default_rng(6)
    counts = random.integers(50, 150, 48).astype(float)
    sums = random.binomial(counts.astype(int), np.clip(0.1 + 0.05 * np.sin(np.arange(48) / 5), 0, 1)).astype(float)
    mean, error = st.block_bootstrap(sums, counts, 6)
    assert mean == pytest.approx(sums.sum() / counts.sum())
    starts = random.integers(0, 48, (20_000, 8))
    hours = ((starts[:, :, None] + np.arange(6)) % 48).reshape(20_000, -1)
    drawn = sums[hours].sum(axis=1) / counts[hours].sum(axis=1)
    assert error == pytest.approx(drawn.std(), rel=0.05)
    independent = st.block_bootstrap(sums, counts, 1)[1]
    assert error > 1.3 * independent  # neighbours are alike


def test_a_rise_is_tested_on_one_side() -> None:
    assert st.rise_p(0.0, 0.1) == pytest.approx(0.5)
    assert st.rise_p(0.1645, 0.1) == pytest.approx(0.05, abs=1e-4)
    assert st.rise_p(-1, 0.1) == pytest.approx(1.0)
