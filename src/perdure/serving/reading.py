"""Raw rows as JSON gives them, into columns of the model's types: each value is read by itself, and a mistake names column and row.

What is read does not depend on the rows beside it, so rows of several requests may be scored together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from itertools import chain
from typing import Any

import polars as pl

from perdure.errors import InvalidInput
from perdure.predictor import parse_dtype, parse_temporal

Column = list[Any] | pl.Series
"""Checked values; of dates and times a series, as they are parsed already."""
_FLOAT32 = 3.4028235677973366e38
_INTEGERS = {
    kind: (0 if name.startswith("U") else -(2 ** (bits - 1)), 2 ** (bits if name.startswith("U") else bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for name in (f"Int{bits}", f"UInt{bits}")
    for kind in (getattr(pl, name),)
}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_ZONED = re.compile(rf"{_LOCAL.pattern}(Z|[+-]\d\d:[0-5]\d)")


class Unfit(ValueError):
    """A value that cannot be read; says what it is instead."""


class Reader:
    """Reads raw rows for one *schema* (``name``, ``dtype``), as `Predictor.schema` gives it."""

    def __init__(self, schema: Sequence[Mapping[str, str]]) -> None:
        self.names = [column["name"] for column in schema]
        self.types = [parse_dtype(column["dtype"]) for column in schema]
        self._known = frozenset(self.names)
        self._reads = [_reader(dtype) for dtype in self.types]
        self._told = {column["name"]: column["dtype"] for column in schema}

    def rows(self, rows: Sequence[Any]) -> list[Column]:
        """The columns of *rows*, dicts by column; other keys are ignored, a key that only some rows lack is a null there.

        Raises InvalidInput naming column and row.
        """
        for number, row in enumerate(rows):
            if type(row) is not dict:
                raise InvalidInput("a row is an object of columns and values", field=f"rows[{number}]", remedy=self._remedy())
        present: Any = rows[0].keys() if len(rows) == 1 else set().union(*rows)
        if missing := [name for name in self.names if name not in present]:
            raise InvalidInput(
                f"missing columns: {', '.join(missing)}",
                field=f"rows[0].{missing[0]}",
                remedy=f"send them in every row, null where a value is not known; {self._remedy()}",
            )
        return self.columns({name: [row.get(name) for row in rows] for name in self.names})

    def columns(self, columns: Mapping[str, list[Any]]) -> list[Column]:
        """The same of values by column, of which none is missing."""
        made: list[Column] = []
        for name, dtype, read in zip(self.names, self.types, self._reads, strict=True):
            values = columns[name]
            try:
                made.append(
                    _temporal(name, values, dtype) if read is None else [None if value is None else read(value) for value in values]
                )
            except Unfit:
                raise self._mistake(name, dtype, read, values) from None
        return made

    def frame(self, parts: Sequence[list[Column]]) -> pl.DataFrame:
        """One frame of the columns that several calls made, in their order."""
        made = []
        for place, (name, dtype) in enumerate(zip(self.names, self.types, strict=True)):
            columns = [part[place] for part in parts]
            if isinstance(columns[0], pl.Series):
                made.append(pl.concat(columns, rechunk=True))  # type: ignore[type-var]
            else:
                values = columns[0] if len(columns) == 1 else list(chain.from_iterable(columns))
                made.append(pl.Series(name, values, dtype=dtype, strict=True))
        return pl.DataFrame(made)

    def _mistake(self, name: str, dtype: Any, read: Callable[[Any], Any] | None, values: list[Any]) -> InvalidInput:
        """Which row it is, found by reading again: the usual request pays nothing for it."""
        for number, value in enumerate(values):
            try:
                if read is None:
                    _temporal(name, [value], dtype)
                elif value is not None:
                    read(value)
            except Unfit as err:
                return InvalidInput(
                    f"column {name!r}, row {number}: {err}", field=f"rows[{number}].{name}", remedy=f"send {self._told[name]}, or null"
                )
        raise AssertionError("a value that could not be read can be read")

    def _remedy(self) -> str:
        shown = [f"{name} ({dtype})" for name, dtype in self._told.items()]
        return f"the model scores rows with: {', '.join(shown[:50])}{', …' if len(shown) > 50 else ''}"


def _reader(dtype: Any) -> Callable[[Any], Any] | None:
    """What makes a value of *dtype* of one of JSON; None for dates and times, which are parsed together."""
    if dtype in (pl.Float64, pl.Float32):
        return _float64 if dtype == pl.Float64 else _float32
    if dtype in _INTEGERS:
        least, most = _INTEGERS[dtype]

        def integer(value: Any) -> int:
            if type(value) is float and value.is_integer():
                value = int(value)
            if type(value) is not int:
                raise Unfit(f"{_shown(value)} is no whole number")
            if not least <= value <= most:
                raise Unfit(f"{value} is beyond {least} to {most}")
            return value

        return integer
    if dtype == pl.String:
        return _text
    if dtype == pl.Boolean:
        return _boolean
    if dtype is not None and dtype.is_temporal() and dtype != pl.Duration:
        return None
    return _nothing


def _float64(value: Any) -> float:
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise Unfit(f"{value} is no number that a model can use")
    if type(value) is not int:
        raise Unfit(f"{_shown(value)} is no number")
    try:
        return float(value)
    except OverflowError:
        raise Unfit("the number is too large") from None


def _float32(value: Any) -> float:
    made = _float64(value)
    if abs(made) >= _FLOAT32:
        raise Unfit("the number is too large for 32 bits")
    return made


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Unfit(f"{_shown(value)} is no text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unfit("the text holds half a surrogate pair") from None
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Unfit(f"{_shown(value)} is neither true nor false")
    return value


def _nothing(value: Any) -> None:
    raise Unfit("values of this type cannot be sent as JSON")


def _temporal(name: str, values: list[Any], dtype: Any) -> pl.Series:
    for value in values:
        if value is not None and type(value) is not str:
            raise Unfit(f"{_shown(value)} is no date or time as ISO 8601 writes it")
        if value is not None and not value.isascii():
            raise Unfit("that is no date or time as ISO 8601 writes it")
    if (usual := _usual(values, dtype)) is not None:
        return pl.Series(name, usual, dtype=dtype)
    made = parse_temporal(pl.Series(name, values, dtype=pl.String), dtype)
    if made.null_count() != sum(value is None for value in values):
        raise Unfit("that is no date or time as ISO 8601 writes it, with an offset exactly where the model knows time zones")
    return made


def _usual(values: list[str | None], dtype: Any) -> Sequence[date | None] | None:
    """What `parse_temporal` makes of *values*, without an expression to plan; None where one is not in the usual form."""
    parse: Callable[[str], date]
    if dtype == pl.Date:
        form, parse = _DAY, date.fromisoformat
    elif dtype == pl.Datetime and dtype.time_unit != "ns":  # those end in 2262
        form, parse = _ZONED if dtype.time_zone else _LOCAL, datetime.fromisoformat
    else:
        return None
    if not all(value is None or form.fullmatch(value) for value in values):
        return None
    try:
        return [None if value is None else parse(value) for value in values]
    except ValueError:  # the 31st of February
        return None


def _shown(value: Any) -> str:
    """The value in a message: people's data is not repeated, its kind is."""
    kinds = {str: "a text", bool: "a boolean", dict: "an object", list: "a list", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)
