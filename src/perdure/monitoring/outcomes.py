"""Predictions and the truth about them: outcomes as they were told become values, and values errors."""

from __future__ import annotations

import polars as pl


def latest(told: pl.LazyFrame) -> pl.LazyFrame:
    """The outcome that counts of each prediction, the latest: columns ``id`` and ``value`` (JSON). *told* is of `perdure.outcomes.Told`."""
    return told.group_by(id="prediction_id").agg(value=pl.col("value").sort_by("observed_at", "received_at").last())


def truth(task: str) -> pl.Expr:
    """The truth in column ``value`` (JSON): a class as text, or a number; null where it is neither."""
    text = pl.col("value").str.strip_chars('"')
    if task == "classification":
        return pl.when(~pl.col("value").str.contains(r"^(null|\{|\[)")).then(_plain(text))
    number = text.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def errors(frame: pl.DataFrame, label: str, task: str) -> pl.DataFrame:
    """*frame* with ``error``: 1 for a wrong class, or how far a number is off. ``prediction`` is compared with the column *label*."""
    if task == "classification":
        wrong = _plain(pl.col("prediction").cast(pl.String)) != _plain(pl.col(label).cast(pl.String))
        return frame.with_columns(wrong.cast(pl.Float64).alias("error"))
    off = pl.col("prediction").cast(pl.Float64) - pl.col(label).cast(pl.Float64)
    return frame.with_columns(off.abs().alias("error"))


def _plain(text: pl.Expr) -> pl.Expr:
    """A whole number without its decimal point, so that 1 and 1.0 are one class."""
    return text.str.replace(r"^(-?\d+)\.0+$", "$1")
