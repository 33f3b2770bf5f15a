"""Profiles merge into what the whole would have given, and keep nothing personal."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.jobs.preparation.profile import ACCURACY, CATEGORIES, measure, merge, quantile, summary
from perdure.keys import canonical

numbers = st.lists(st.none() | st.floats(allow_nan=False, width=32), min_size=1, max_size=40)


@given(numbers, numbers)
def test_parts_make_the_whole(one: list[float | None], other: list[float | None]) -> None:
    frames = [pl.DataFrame({"x": part}, schema={"x": pl.Float64}) for part in (one, other)]
    whole = measure(pl.concat(frames), set())["x"]
    parts = merge(measure(frame, set()) for frame in frames)["x"]
    assert {key: parts[key] for key in ("count", "nulls")} == {key: whole[key] for key in ("count", "nulls")}
    ours, theirs = parts["numbers"], whole["numbers"]
    assert all(ours[key] == theirs[key] for key in ("count", "infinite", "min", "max", "zero", "positive", "negative"))
    assert ours["mean"] == pytest.approx(theirs["mean"], rel=1e-6, abs=1e-6 * max(1.0, abs(theirs["min"] or 0), abs(theirs["max"] or 0)))
    assert ours["m2"] == pytest.approx(theirs["m2"], rel=1e-6, abs=1e-6)
    canonical(summary({"x": parts}))  # is JSON


@pytest.mark.parametrize("values", [np.random.default_rng(1).lognormal(3, 2, 5_000), np.random.default_rng(2).normal(size=5_000)])
def test_quantiles(values: np.ndarray) -> None:  # type: ignore[type-arg]
    found = measure(pl.DataFrame({"x": values}), set())["x"]["numbers"]
    for share in (0.0, 0.01, 0.25, 0.5, 0.9, 1.0):
        exact = float(np.quantile(values, share, method="lower"))
        assert quantile(found, share) == pytest.approx(exact, rel=2.1 * ACCURACY, abs=1e-3)
    told = summary({"x": {"numbers": found}})["x"]["numbers"]
    assert told["std"] == pytest.approx(values.std())
    assert told["quantiles"]["0.5"] == quantile(found, 0.5)


def test_kinds_of_columns() -> None:
    frame = pl.DataFrame({"d": [date(1970, 1, 2), None], "b": [True, True], "t": ["ab", "ü"], "o": [[1], [2]]})
    made = measure(frame, set())
    assert made["d"]["numbers"]["max"] == 86_400
    assert made["b"]["categories"] == {"true": 2}
    assert made["t"]["categories"] == {"ab": 1, "ü": 1}
    assert made["t"]["lengths"]["mean"] == 1.5
    assert made["o"] == {"dtype": "List(Int64)", "count": 2, "nulls": 0}


def test_nothing_personal_is_kept() -> None:
    frame = pl.DataFrame({"name": ["Erika Mustermann"] * 3, "income": [123_456] * 3})
    made = summary(merge([measure(frame, {"name", "income"})] * 2))
    text = json.dumps(made)
    assert "Mustermann" not in text
    assert "123456" not in text
    assert made["name"]["lengths"]["max"] == 16
    assert made["income"] == {"dtype": "Int64", "count": 6, "nulls": 0, "personal": True}


def test_many_texts_are_no_categories() -> None:
    def texts(start: int) -> dict[str, object]:
        return measure(pl.DataFrame({"t": [str(i) for i in range(start, start + CATEGORIES - 1)]}), set())

    assert texts(0)["t"]["categories"] is not None  # type: ignore[index]
    assert merge([texts(0), texts(CATEGORIES)])["t"]["categories"] is None
    assert measure(pl.DataFrame({"t": ["x" * 200]}), set())["t"]["categories"] is None
