"""What counts as drift: large and significant, never one of them alone; schemas; profiles by the bins of a reference; the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from perdure.jobs.preparation import profile
from perdure.messages.retraining import DriftKind
from perdure.monitoring import drift, report, sketches
from perdure.monitoring.bins import Bins
from perdure.monitoring.drift import Counted, Finding, Span
from perdure.monitoring.reference import Counting, Normal
from perdure.monitoring.schema import differences
from perdure.monitoring.windows import Window, hourly
from perdure.spec.monitor import Effect, Monitor

EVEN = Span(1.0, np.ones(7))
WANTED = Monitor()


def normal(size: int = 20_000, seed: int = 0) -> tuple[Bins, dict[str, Normal]]:
    frame = pl.DataFrame({"x": np.random.default_rng(seed).normal(size=size)})
    bins = Bins.of("x", profile.measure(frame, set())["x"], profile.quantile)
    assert bins is not None
    counting = Counting([bins])
    counting.add(frame)
    return bins, counting.normals()


def found(shift: float, rows: int, wanted: Monitor = WANTED) -> Finding | None:
    bins, normals = normal()
    counts, missing = bins.count(pl.Series("x", np.random.default_rng(1).normal(shift, size=rows)))
    return drift.columns("requests", DriftKind.DATA, {"x": Counted(counts, missing)}, normals, EVEN, wanted)


def test_a_harmless_shift_of_many_rows_is_significant_and_no_drift() -> None:
    made = found(0.05, 200_000)
    assert made is not None
    assert made.metrics[0]["p_value"] < 1e-6
    assert not made.drifted
    assert made.severity == pytest.approx(0.02, abs=0.01)


def test_a_large_shift_is_drift() -> None:
    made = found(0.5, 2_000)
    assert made is not None
    assert made.drifted
    assert made.metrics[0]["ks"] == pytest.approx(0.197, abs=0.03)  # 2 Φ(1/4) - 1
    assert made.metrics[0]["psi"] == pytest.approx(0.25, abs=0.05)  # the square of the shift, for normal numbers
    assert made.severity == made.metrics[0]["ks"]


def test_few_rows_say_nothing() -> None:
    assert found(3.0, 999) is None
    assert found(3.0, 999, Monitor(min_rows=500)) is not None


def test_a_large_effect_by_chance_is_no_drift() -> None:
    bins, normals = normal(200)
    wanted = Monitor(min_rows=100, alpha=0.01, effect=Effect(ks=0.1))
    hits = [
        drift.columns(
            "requests",
            DriftKind.DATA,
            {"x": Counted(*bins.count(pl.Series("x", np.random.default_rng(i).normal(size=100))))},
            normals,
            EVEN,
            wanted,
        )
        for i in range(100)
    ]
    large = [each for each in hits if each and each.metrics[0]["statistic"] >= wanted.effect.ks]
    assert len(large) > 20
    assert sum(each.drifted for each in hits if each) <= 3


def test_only_the_detectors_that_are_wanted_say_what_is_large() -> None:
    by = {name: found(0.42, 5_000, Monitor(detectors=[name])) for name in ("ks", "psi")}
    assert {name: made and made.drifted for name, made in by.items()} == {"ks": True, "psi": False}


def test_a_reference_of_numbers_and_of_its_json_is_one() -> None:
    bins, normals = normal()
    again = Normal.from_json(normals["x"].as_json())
    assert np.array_equal(again.counts, normals["x"].counts)
    assert (again.bins.labels, again.bins.size) == (bins.labels, 20)


def test_batches_and_days_count_as_one_pass_does() -> None:
    random = np.random.default_rng(3)
    frame = pl.DataFrame({"x": random.normal(size=3_000), "c": random.choice(["a", "b", None], 3_000)})
    told = profile.measure(frame, set())
    bins = [each for name in frame.columns if (each := Bins.of(name, told[name], profile.quantile))]
    one, many = Counting(bins), Counting(bins)
    one.add(frame)
    days = pl.Series(random.integers(0, 28, 3_000))
    for start in range(0, 3_000, 700):
        many.add(frame[start : start + 700], days[start : start + 700])
    whole, split = one.normals(), many.normals()
    for name in frame.columns:
        assert np.array_equal(whole[name].counts[0], split[name].counts.sum(axis=0))
        assert whole[name].missing.sum() == split[name].missing.sum()
        assert split[name].counts.shape[0] == 7
    window = Window(whole)
    window.add(frame)
    assert np.array_equal(window.counted()["c"].counts, whole["c"].counts[0])
    assert window.counted()["c"].missing == frame["c"].null_count()


def test_a_profile_counts_as_its_rows_do() -> None:
    bins, normals = normal()
    frame = pl.DataFrame({"x": np.random.default_rng(4).normal(0.3, 2, size=5_000)})
    made = sketches.counted(normals["x"], profile.measure(frame, set())["x"])
    assert made is not None
    exact = bins.count(frame["x"])[0]
    assert made.counts.sum() == 5_000
    assert np.abs(np.cumsum(made.counts - exact)).max() < 0.01 * 5_000


def test_columns_that_differ_are_told() -> None:
    usual = {"a": "Int64", "b": "String", "c": "Boolean", "d": "Date"}
    assert differences(usual, {"a": "Float64", "b": "String", "c": "Boolean", "d": "String"}) == ([], [])
    broken, new = differences(usual, {"a": "String", "c": "Boolean", "d": "Date", "e": "Int8"})
    assert broken == ["column b is missing", "column a holds String, not Int64"]
    assert new == ["column e is new"]
    made = drift.with_schema(None, "requests", DriftKind.DATA, 5, broken, new)
    assert made is not None
    assert (made.drifted, made.severity, made.n) == (True, 1.0, 5)
    assert drift.with_schema(None, "requests", DriftKind.DATA, 5, [], new) is None


@pytest.mark.parametrize(("mean", "drifted"), [(0.15, True), (0.12, False), (0.05, False)])
def test_errors_that_rise_by_five_points_are_drift(mean: float, drifted: bool) -> None:
    made = drift.quality(mean, 0.008, 0.10, 0.004, 2_000, "classification", WANTED)
    assert made is not None
    assert made.drifted is drifted
    assert drift.quality(mean, 0.008, 0.10, 0.004, 500, "classification", WANTED) is None


def test_errors_of_numbers_are_compared_with_the_usual_error() -> None:
    made = drift.quality(11.0, 0.1, 10.0, 0.1, 2_000, "regression", WANTED)
    assert made is not None
    assert made.metrics[0]["statistic"] == pytest.approx(0.1)
    assert made.drifted


def test_hours_are_those_of_the_window() -> None:
    start = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
    times = pl.Series("time", [start, start + timedelta(minutes=29), start + timedelta(minutes=30)], dtype=pl.Datetime("us", "UTC"))
    sums, counts = hourly(pl.DataFrame([times, pl.Series("error", [1.0, 0.0, 1.0])]), start, start + timedelta(hours=2))
    assert (sums.tolist(), counts.tolist()) == ([1.0, 1.0, 0.0], [2.0, 1.0, 0.0])


def test_the_page_is_well_formed_and_escapes_what_it_is_told() -> None:
    test = {"feature": "<x>", "method": "ks", "statistic": 0.3, "threshold": 0.1, "p_value": 0.0, "drifted": True}
    finding = Finding(monitor="requests", kind=DriftKind.DATA, n=5, drifted=True, severity=0.3, metrics=[test], notes=["a & b"])
    bars = report.Bars("requests", "<x>", ["low", "high"], np.array([3.0, 1.0]), np.array([0.5, 0.5]))
    now = datetime(2026, 3, 1, tzinfo=UTC)
    hours = report.Hours(now, np.array([1.0, 0.0]), np.array([2.0, 0.0]), 0.1)
    page = report.page(report.About("m", 3, now, now), [finding], [bars, hours])
    assert "<x>" not in page
    assert "Largest change: low, 75.0% instead of 50.0%" in page

    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None: ...

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
