"""Slices of an evaluation: the value of a row alone says which one it falls into."""

from __future__ import annotations

import polars as pl
import pytest

from perdure.jobs.evaluation import _group, _largest

NOTHING = pl.DataFrame()


@pytest.mark.parametrize(
    ("values", "slices"),
    [
        ([1.0, 2.0, None], ["1", "2", "null"]),
        ([1.0, 1.5, -3.0], ["1", "1.5", "-3"]),
        ([float("inf"), 1e300, 0.0], ["inf", "1e+300", "0"]),
        ([1, 20, None], ["1", "20", "null"]),
        ([True, False], ["true", "false"]),
        (["1.0", "x"], ["1.0", "x"]),
    ],
)
def test_a_value_is_in_one_slice_whatever_stands_beside_it(values: list[object], slices: list[str]) -> None:
    assert _group("v", pl.DataFrame({"v": values}), NOTHING).to_list() == slices
    alone = [_group("v", pl.DataFrame({"v": pl.Series([value], dtype=pl.Series(values).dtype)}), NOTHING).item() for value in values]
    assert alone == slices


@pytest.mark.parametrize("column", ["n", "rows", "slice", "count"])
def test_a_column_may_have_any_name(column: str) -> None:
    groups = _group(column, pl.DataFrame({column: ["b", "a", "b"]}), NOTHING)
    assert {name: rows.tolist() for name, rows in _largest(groups).items()} == {"a": [1], "b": [0, 2]}
