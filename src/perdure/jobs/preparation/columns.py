"""Types of raw columns: inferred from a sample of text where no schema names them, and cast row by row, never by what is beside a row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from perdure.errors import SchemaBroken
from perdure.predictor import parse_dtype, parse_temporal

Failures = pl.DataFrame  # row (position in the frame), column, check, example (text or null)
FAILURES: dict[str, Any] = {"row": pl.UInt32, "column": pl.String, "check": pl.String, "example": pl.String}

_CODE = r"^[+-]?0\d"  # a number written so is a code: as a number it would lose its zeros


def infer(text: pl.Series) -> Any:
    """The narrowest type that holds every value of *text*: Boolean, Int64, Float64, Date, Datetime, else String."""
    values = text.drop_nulls()
    if values.is_empty() or values.str.contains(_CODE).any():
        return pl.String
    for dtype in (pl.Boolean, pl.Int64, pl.Float64, pl.Date, pl.Datetime("us"), pl.Datetime("us", "UTC")):
        if _parse(values, dtype).null_count() == 0:
            return dtype
    return pl.String


def typed(raw: pl.DataFrame, schema: Iterable[dict[str, str]]) -> tuple[pl.DataFrame, Failures]:
    """*raw* in the types of *schema*, and the values that do not fit; these are null in the frame. A NaN is a null."""
    columns, failures = [], []
    for column in schema:
        series = raw.get_column(column["name"])
        made = series if str(series.dtype) == column["dtype"] else _convert(series, parse_dtype(column["dtype"]))
        lost = made.is_null() & series.is_not_null()
        if lost.any():
            failures.append(failing(lost, series.name, f"is no {column['dtype']}", series))
        columns.append(made.fill_nan(None) if made.dtype.is_float() else made)
    return pl.DataFrame(columns), pl.concat(failures) if failures else pl.DataFrame(schema=FAILURES)


def failing(mask: pl.Series, column: str, check: str, values: pl.Series | None = None) -> Failures:
    """Failures of *check* on *column* where *mask* is true."""
    rows = mask.arg_true()
    example = values.gather(rows).cast(pl.String, strict=False) if values is not None else pl.Series([None] * len(rows), dtype=pl.String)
    return pl.DataFrame({"row": rows, "column": [column] * len(rows), "check": [check] * len(rows), "example": example}, schema=FAILURES)


def moment(value: Any) -> str | float | int:
    """A time as JSON: ISO text, or the number."""
    return value.isoformat() if isinstance(value, date | datetime) else value


def from_moment(value: Any, dtype: Any) -> Any:
    """What `moment` wrote, as a literal of *dtype*."""
    if isinstance(value, str):
        return date.fromisoformat(value) if dtype == pl.Date else datetime.fromisoformat(value)
    return value


def instant(moment: datetime, dtype: Any) -> date | datetime:
    """*moment* as a literal of *dtype*; times without a zone are UTC. Raises SchemaBroken where *dtype* is a number."""
    if dtype == pl.Date:
        return moment.astimezone(UTC).date()
    if not dtype.is_temporal():
        raise SchemaBroken(
            f"the time column holds {dtype}, so a data cut-off cannot be compared with it",
            field="data.until",
            remedy="give the column a type of dates or times in data.schema",
        )
    return moment if dtype.time_zone else moment.astimezone(UTC).replace(tzinfo=None)


def _parse(text: pl.Series, dtype: Any) -> pl.Series:
    """*text* as *dtype*, null where it is none."""
    if dtype == pl.String:
        return text
    text = text.str.strip_chars()
    if dtype == pl.Boolean:
        lower = text.str.to_lowercase()
        return pl.select(pl.when(lower == "true").then(True).when(lower == "false").then(False)).to_series().alias(text.name)
    if dtype.is_temporal():
        return parse_temporal(text, dtype)
    return text.cast(dtype, strict=False)


def _convert(series: pl.Series, dtype: Any) -> pl.Series:
    """*series* as *dtype*, null where a value would be lost."""
    if series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        return _parse(series, dtype)
    made = series.cast(dtype, strict=False)
    if series.dtype.is_float() and dtype.is_integer():
        made = pl.select(pl.when(made == series).then(made)).to_series().alias(series.name)
    return made
