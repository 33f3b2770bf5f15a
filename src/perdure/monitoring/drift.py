"""Whether something moved: only where an effect is large *and* chance, corrected for the number of columns, does not explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from perdure.messages.common import Json
from perdure.messages.retraining import DriftKind
from perdure.monitoring import statistics as st
from perdure.monitoring.reference import Normal
from perdure.monitoring.statistics import Floats
from perdure.spec.monitor import Monitor

_AS_ROWS = 10_000  # so many rows stand behind expected shares where an index needs counts: none of them is zero then


@dataclass(frozen=True)
class Counted:
    """A column of a window: rows by bin of its reference, rows without a value, and rows beyond what the reference held."""

    counts: Floats
    missing: float = 0.0
    outside: float = 0.0


@dataclass(frozen=True)
class Span:
    """What a window is made of: its length in days, and its rows by day of the week."""

    days: float
    weights: Floats


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one monitor says of one window. ``metrics`` has a line for each test; ``notes`` are facts, such as a missing column."""

    monitor: str
    kind: DriftKind
    n: int
    drifted: bool
    severity: float
    metrics: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """As plain data."""
        return {**asdict(self), "kind": str(self.kind)}


@dataclass(frozen=True)
class Moved:
    """How far distributions moved: effects by name, the p-value, and whether an effect is large. Arrays of one shape, or numbers."""

    effects: dict[str, Any]
    p: Any
    large: Any
    severity: Any


def numbers(window: Any, expected: Any, noise: Any, freedom: int, wanted: Monitor) -> Moved:
    """Numbers by bin (..., bins) against the *expected* shares. Works on many windows and columns at once."""
    index, distance = st.psi(window, np.asarray(expected) * _AS_ROWS, noise), st.ks(window, expected)
    large = np.zeros(np.shape(distance), dtype=bool)
    if "psi" in wanted.detectors:
        large |= index >= wanted.effect.psi
    if "ks" in wanted.detectors:
        large |= distance >= wanted.effect.ks
    return Moved({"psi": index, "ks": distance}, st.ks_p(distance, noise, freedom), large, distance)


def categories(window: Any, expected: Any, noise: Any, freedom: int, wanted: Monitor) -> Moved:
    """The same for categories."""
    square, association = st.squares(window, expected), st.cramers_v(window, expected)
    bins = np.count_nonzero(np.asarray(window) + np.asarray(expected), axis=-1)
    return Moved({"cramers_v": association}, st.chi2_p(square, bins, noise, freedom), association >= wanted.effect.categories, association)


def columns(
    monitor: str, kind: DriftKind, window: Mapping[str, Counted], normals: Mapping[str, Normal], span: Span, wanted: Monitor
) -> Finding | None:
    """What a monitor of distributions finds in the columns of a window; None where the window has too few rows to say anything."""
    rows = max((int(each.counts.sum() + each.missing) for each in window.values()), default=0)
    if rows < wanted.min_rows:
        return None
    tests = []
    for name, counted in window.items():
        normal = normals[name]
        tests += _distribution(name, counted, normal, span, wanted)
        if "schema" in wanted.detectors:
            tests += _shares(name, counted, normal, span, wanted)
    return _concluded(monitor, kind, rows, tests, wanted)


def _distribution(name: str, counted: Counted, normal: Normal, span: Span, wanted: Monitor) -> list[Json]:
    rows = float(counted.counts.sum())
    if rows < wanted.min_rows or not normal.counts.sum():
        return []
    expected, noise = normal.expected(span.weights), normal.noise(rows, span.days, span.weights)
    category = normal.bins.kind == "category"
    moved = (categories if category else numbers)(counted.counts, expected, noise, normal.freedom(), wanted)
    effects = {effect: float(value) for effect, value in moved.effects.items()}
    test = _test(
        name, "chi2" if category else "ks", float(moved.severity), wanted.effect.categories if category else wanted.effect.ks, moved
    )
    return [{**test, **effects, "effective_rows": round(float(1 / noise), 1)}]


def _shares(name: str, counted: Counted, normal: Normal, span: Span, wanted: Monitor) -> list[Json]:
    """Missing values, and values beyond what the reference held."""
    rows = max(1.0, float(counted.counts.sum()) + counted.missing)
    noise, freedom, threshold = normal.noise(rows, span.days, span.weights, "missing"), normal.freedom("missing"), wanted.effect.missing
    made = []
    for method, share, usual in (
        ("missing", counted.missing / rows, normal.expected_missing(span.weights)),
        ("outside", counted.outside / rows, 0.0),
    ):
        if share == usual == 0:
            continue
        p = st.chi2_p(st.squares([share, 1 - share], [usual, 1 - usual]), 2, noise, freedom)
        change = abs(share - usual)
        test = _test(name, method, change, threshold, Moved({}, p, change >= threshold, change))
        made.append({**test, "share": share, "usual": usual})
    return made


def _test(feature: str, method: str, statistic: float, threshold: float, moved: Moved) -> Json:
    p, large = float(moved.p), bool(moved.large)
    return {"feature": feature, "method": method, "statistic": statistic, "threshold": threshold, "p": p, "large": large}


def _concluded(monitor: str, kind: DriftKind, rows: int, tests: list[Json], wanted: Monitor) -> Finding:
    """Drifted is what is large and significant; as severe as the largest of what is significant."""
    corrected = st.holm([test.pop("p") for test in tests]) if tests else np.empty(0)
    severity = 0.0
    for test, p in zip(tests, corrected, strict=True):
        test["p_value"] = float(p)
        test["drifted"] = bool(test.pop("large") and p < wanted.alpha)
        severity = max(severity, test["statistic"] if p < wanted.alpha else 0.0)
    drifted = any(test["drifted"] for test in tests)
    return Finding(monitor=monitor, kind=kind, n=rows, drifted=drifted, severity=min(1.0, severity), metrics=tests)


def quality(mean: float, error: float, usual: float, usual_error: float, rows: int, task: str, wanted: Monitor) -> Finding | None:
    """Whether errors grew: *mean* with its standard *error* in the window, *usual* on the rows that the version was tested on."""
    if rows < wanted.min_rows:
        return None
    rise, large, p = worse(mean, error, usual, usual_error, task, wanted)
    test = _test("error", "block bootstrap", float(rise), wanted.effect.error, Moved({}, p, large, rise))
    return _concluded("quality", DriftKind.QUALITY, rows, [{**test, "share": mean, "usual": usual}], wanted)


def with_schema(found: Finding | None, monitor: str, kind: DriftKind, rows: int, broken: list[str], new: list[str]) -> Finding | None:
    """*found* with what is *broken* and *new* in columns and types. What is broken has drifted, however many rows there are."""
    if not broken and (found is None or not new):
        return found
    base = found or Finding(monitor=monitor, kind=kind, n=rows, drifted=False, severity=0.0)
    drifted, severity = base.drifted or bool(broken), 1.0 if broken else base.severity
    return replace(base, drifted=drifted, severity=severity, notes=[*base.notes, *broken, *new])


def worse(mean: Any, error: Any, usual: Any, usual_error: Any, task: str, wanted: Monitor) -> tuple[Any, Any, Any]:
    """By how much errors rose, whether that is much, and its p-value. A regression's rise is a share of the usual error."""
    unit = 1.0 if task == "classification" else np.maximum(usual, 1e-12)
    rise = (np.asarray(mean) - usual) / unit
    return rise, rise >= wanted.effect.error, st.rise_p(rise * unit, np.hypot(error, usual_error))
