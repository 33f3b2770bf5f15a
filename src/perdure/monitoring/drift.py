"""Whether something moved: only where an effect is large *and* chance, corrected for the number of columns, does not explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        return {**self.__dict__, "kind": str(self.kind)}


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
    return [
        {
            "column": name,
            "method": "chi2" if category else "ks",
            **{effect: float(value) for effect, value in moved.effects.items()},
            "p": float(moved.p),
            "large": bool(moved.large),
            "size": float(moved.severity),
            "effective_rows": round(1 / noise, 1),
        }
    ]


def _shares(name: str, counted: Counted, normal: Normal, span: Span, wanted: Monitor) -> list[Json]:
    """Missing values, and values beyond what the reference held."""
    rows = float(counted.counts.sum()) + counted.missing
    noise = normal.noise(rows, span.days, span.weights, "missing")
    made = []
    for method, share, usual in (
        ("missing", counted.missing / max(rows, 1), normal.expected_missing(span.weights)),
        ("outside", counted.outside / max(rows, 1), 0.0),
    ):
        if share == usual == 0:
            continue
        p = st.chi2_p(st.squares([share, 1 - share], [usual, 1 - usual]), 2, noise, normal.freedom("missing"))
        change = abs(share - usual)
        large = change >= wanted.effect.missing
        made.append(
            {"column": name, "method": method, "share": share, "usual": usual, "p": float(p), "large": large, "size": min(1.0, change)}
        )
    return made


def _concluded(monitor: str, kind: DriftKind, rows: int, tests: list[Json], wanted: Monitor) -> Finding:
    corrected = st.holm([test["p"] for test in tests]) if tests else []
    for test, p in zip(tests, corrected, strict=True):
        test["p_corrected"] = float(p)
        test["drifted"] = bool(test.pop("large") and p < wanted.alpha)
    drifted = [test for test in tests if test["drifted"]]
    severity = max((test["size"] for test in (drifted or tests)), default=0.0)
    return Finding(monitor=monitor, kind=kind, n=rows, drifted=bool(drifted), severity=min(1.0, severity), metrics=tests)


def quality(mean: float, error: float, usual: float, usual_error: float, rows: int, task: str, wanted: Monitor) -> Finding | None:
    """Whether errors grew: *mean* with its standard *error* in the window, *usual* on the rows that the version was tested on."""
    if rows < wanted.min_rows:
        return None
    rise, large, p = worse(mean, error, usual, usual_error, task, wanted)
    test = {"column": "error", "method": "block bootstrap", "mean": mean, "usual": usual, "rise": float(rise), "p": float(p)}
    test |= {"large": bool(large), "size": min(1.0, max(0.0, float(rise)))}
    return _concluded("quality", DriftKind.QUALITY, rows, [test], wanted)


def worse(mean: Any, error: Any, usual: Any, usual_error: Any, task: str, wanted: Monitor) -> tuple[Any, Any, Any]:
    """By how much errors rose, whether that is much, and its p-value. A regression's rise is a share of the usual error."""
    unit = 1.0 if task == "classification" else np.maximum(usual, 1e-12)
    rise = (np.asarray(mean) - usual) / unit
    return rise, rise >= wanted.effect.error, st.rise_p(rise * unit, np.hypot(error, usual_error))
