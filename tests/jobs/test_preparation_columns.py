"""Types of columns: inferred, cast row by row, nothing lost silently."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from perdure.jobs.preparation.columns import from_moment, infer, moment, typed


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", " 2", "-3"], pl.Int64),
        (["1", "2.5", "1e3", "nan"], pl.Float64),
        (["true", "False"], pl.Boolean),
        (["2026-01-02"], pl.Date),
        (["2026-01-02", "2026-01-02T03:04:05"], pl.Datetime("us")),
        (["2026-01-02T03:04:05Z"], pl.Datetime("us", "UTC")),
        (["00123", "4"], pl.String),
        (["0", "0.5"], pl.Float64),
        (["1", "x"], pl.String),
        ([None], pl.String),
        (["1", None], pl.Int64),
    ],
)
def test_inferred_types(values: list[str | None], dtype: pl.DataType) -> None:
    assert infer(pl.Series("a", values, dtype=pl.String)) == dtype


def schema(**columns: object) -> list[dict[str, str]]:
    return [{"name": name, "dtype": str(dtype)} for name, dtype in columns.items()]


def test_a_value_that_does_not_fit_is_told() -> None:
    raw = pl.DataFrame({"n": ["1", "x", None, " 4 "], "f": ["0.5", "NaN", "", "1"], "b": ["TRUE", "no", None, "false"]})
    frame, failures = typed(raw, schema(n=pl.Int64(), f=pl.Float64(), b=pl.Boolean()))
    assert frame.to_dict(as_series=False) == {"n": [1, None, None, 4], "f": [0.5, None, None, 1.0], "b": [True, None, None, False]}
    told = [(f["row"], f["column"], f["check"], f["example"]) for f in failures.iter_rows(named=True)]
    assert told == [(1, "n", "is no Int64", "x"), (2, "f", "is no Float64", ""), (1, "b", "is no Boolean", "no")]


def test_types_of_parquet_are_converted_without_loss() -> None:
    raw = pl.DataFrame({"i": [1.0, 1.5, None], "c": pl.Series(["a", "b", None], dtype=pl.Categorical), "s": [300, 1, 2]})
    frame, failures = typed(raw, schema(i=pl.Int64(), c=pl.String(), s=pl.Int8()))
    assert frame.to_dict(as_series=False) == {"i": [1, None, None], "c": ["a", "b", None], "s": [None, 1, 2]}
    assert failures.select("row", "column").rows() == [(1, "i"), (0, "s")]


@pytest.mark.parametrize(
    ("value", "dtype"), [(date(2026, 1, 2), pl.Date()), (datetime(2026, 1, 2, 3), pl.Datetime("us")), (7, pl.Int64()), (0.5, pl.Float64())]
)
def test_a_moment_survives_json(value: object, dtype: pl.DataType) -> None:
    assert from_moment(moment(value), dtype) == value
