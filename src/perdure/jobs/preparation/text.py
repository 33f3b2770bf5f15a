"""Reads blocks of csv or tsv records into frames of text; what is no record of these columns is told apart."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv

from perdure.spec.pipeline import Source

RAW, REASON = "__raw", "__reason"


@dataclass(frozen=True)
class Parsed:
    """A block: ``rows`` are text; ``unreadable`` has the same columns, `RAW` (the record, if it has no columns) and `REASON`."""

    rows: pl.DataFrame
    unreadable: pl.DataFrame


class TextFormat:
    """How the files of *source* are written."""

    def __init__(self, source: Source) -> None:
        self.delimiter = "\t" if source.format == "tsv" else ","
        self.quoting = source.quoting if source.quoting is not None else source.format == "csv"
        self._nulls = ["", *source.null_values]

    def fields(self, record: bytes) -> list[str]:
        """The fields of one record, as a header has them."""
        text = record.decode("utf-8", errors="replace").rstrip("\r\n")
        return next(csv.reader([text], delimiter=self.delimiter), []) if self.quoting else text.split(self.delimiter)

    def parse(self, block: bytes, names: list[str]) -> Parsed:
        """The records of *block*. Empty lines are left out; empty fields and the source's null values are null; a bare CR ends a record.

        Records with another number of fields, or with bytes that are no UTF-8, are unreadable.
        """
        try:
            block.decode()
            encoded = block
        except UnicodeDecodeError:  # latin-1 keeps every byte, so the rows are told apart below
            encoded = block.decode("latin-1").encode()
        rows, bad = self._read(encoded, names)
        if encoded is block:
            return Parsed(rows, unreadable(names, bad))
        return self._decode(rows, [(_bytes(raw).decode(errors="replace"), reason) for raw, reason in bad])

    def _read(self, block: bytes, names: list[str]) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
        bad: list[tuple[str, str]] = []

        def set_aside(row: arrow_csv.InvalidRow) -> str:
            bad.append((row.text, f"{row.actual_columns} field{'s' * (row.actual_columns != 1)} instead of {row.expected_columns}"))
            return "skip"

        if not block.strip(b"\r\n"):
            return pl.DataFrame(schema=dict.fromkeys(names, pl.String)), bad
        table = arrow_csv.read_csv(
            pa.py_buffer(block),
            arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            arrow_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.quoting else False,
                newlines_in_values=self.quoting,
                invalid_row_handler=set_aside,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                check_utf8=False,  # seen to above
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=self._nulls,
            ),
        )
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame, bad

    def _decode(self, rows: pl.DataFrame, bad: list[tuple[str, str]]) -> Parsed:
        columns: dict[str, list[str | None]] = {}
        reasons: dict[int, str] = {}
        for name in rows.columns:
            columns[name] = []
            for index, value in enumerate(rows.get_column(name)):
                text, valid = _decoded(value)
                columns[name].append(text)
                if not valid:
                    reasons.setdefault(index, f"{name}: not UTF-8")
        decoded = pl.DataFrame(columns, schema=dict.fromkeys(rows.columns, pl.String))
        broken = decoded[list(reasons)].with_columns(
            pl.lit(None, pl.String).alias(RAW), pl.Series(REASON, list(reasons.values()), dtype=pl.String)
        )
        good = pl.Series([index not in reasons for index in range(decoded.height)], dtype=pl.Boolean)
        return Parsed(decoded.filter(good), pl.concat([unreadable(rows.columns, bad), broken]))


def unreadable(names: list[str], records: list[tuple[str, str]]) -> pl.DataFrame:
    """A frame of records (text, reason) that have no columns."""
    schema = {**dict.fromkeys(names, pl.String), RAW: pl.String, REASON: pl.String}
    blank: Iterator[tuple[str | None, ...]] = ((*[None] * len(names), raw, reason) for raw, reason in records)
    return pl.DataFrame(list(blank), schema=schema, orient="row")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _decoded(value: str | None) -> tuple[str | None, bool]:
    if value is None:
        return None, True
    try:
        return _bytes(value).decode(), True
    except UnicodeDecodeError:
        return _bytes(value).decode(errors="replace"), False
