"""Predictions and what became known about them: the inference log of an interval joined with the last outcome of each prediction.

Deterministic once the interval has matured: an outcome that was received later than *window* after its prediction counts as late and
changes nothing, so whoever computes a window again gets what was computed first. Of several outcomes the one that was observed last counts,
of those the one that was received last. A shadow's prediction gets the outcome of the request that it shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from perdure.predictions import REQUEST

ANSWERED = ("release", "canary", "arm")
"""The roles whose predictions somebody got."""
TRUTH, NUMBER, OBSERVED, SOURCE = "truth", "truth.number", "truth.observed_at", "truth.source"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many predictions of an interval got their outcome. Shares are of those that matured."""

    predictions: int
    matured: int  # older than the window: what is not here will not count
    joined: int  # got an outcome within the window
    late: int  # matured, and got their first outcome after the window
    missing: int  # matured, and got none

    @property
    def waiting(self) -> int:
        """Predictions that are too young to say, and have no outcome yet."""
        return self.predictions - self.joined - self.late - self.missing

    @property
    def shares(self) -> dict[str, float]:
        """Joined, late and missing as shares of the predictions that matured or were joined already."""
        whole = self.joined + self.late + self.missing
        return {name: getattr(self, name) / whole if whole else 0.0 for name in ("joined", "late", "missing")}


def joined(
    log: pl.LazyFrame,
    outcomes: pl.LazyFrame | None,
    *,
    since: datetime,
    until: datetime,
    window: timedelta,
    roles: Sequence[str] = ANSWERED,
    sources: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """The predictions made from *since* to before *until*, with columns `TRUTH` (text), `NUMBER`, `OBSERVED`, `SOURCE` and ``late``.

    They are null where no outcome came within *window*; ``late`` says that one came after it. *outcomes* has the columns of
    `perdure.outcomes.OutcomeFiles`; *sources* are those that count (None: all).
    Lazy: select what is needed, and collect with the streaming engine.
    """
    made = log.filter(
        pl.col("date").is_between(since.date(), until.date()),
        pl.col("time") >= since,
        pl.col("time") < until,
        pl.col("role").is_in([*roles]),
    ).with_columns(_request=pl.col("id").str.tail(REQUEST))
    if outcomes is None:
        nothing = [pl.lit(None, pl.String).alias(name) for name in (TRUTH, SOURCE)]
        return made.drop("_request").with_columns(
            *nothing,
            pl.lit(None, pl.Float64).alias(NUMBER),
            pl.lit(None, pl.Datetime("us", "UTC")).alias(OBSERVED),
            pl.lit(False).alias("late"),
        )
    request = pl.col("prediction_id").str.tail(REQUEST)
    stamp = request.str.head(12).str.to_integer(base=16, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us")
    told = outcomes.with_columns(request.alias("_request"), stamp.alias("_made")).filter(pl.col("_made") >= since, pl.col("_made") < until)
    if sources is not None:
        told = told.filter(pl.col("source").is_in([*sources]))
    intime = pl.col("received_at") <= pl.col("_made") + window
    order = [pl.col(name).filter(intime) for name in ("observed_at", "received_at")]
    kept = (("value", "_value"), ("observed_at", OBSERVED), ("source", SOURCE))
    last = (
        told.group_by("_request")
        .agg(*(pl.col(name).filter(intime).sort_by(order).last().alias(called) for name, called in kept), (~intime).all().alias("late"))
        .with_columns(_text(pl.col("_value")).alias(TRUTH), pl.col("_value").cast(pl.Float64, strict=False).alias(NUMBER))
    )
    return made.join(last, on="_request", how="left").drop("_request", "_value").with_columns(pl.col("late").fill_null(False))


def _text(json: pl.Expr) -> pl.Expr:
    """A value in JSON as classes are written: without quotes, and 1.0 as 1."""
    plain = pl.when(json.str.starts_with('"')).then(json).str.json_decode(pl.String)
    return pl.coalesce(plain, json.str.replace(r"^(-?\d+)\.0$", "$1"))


def coverage(frame: pl.LazyFrame, *, window: timedelta, now: datetime) -> Coverage:
    """How much of *frame* (of `joined`) has its outcome at *now*. Streams."""
    matured, found = pl.col("time") <= now - window, pl.col(TRUTH).is_not_null()
    made = frame.select(
        pl.len().alias("predictions"),
        matured.sum().alias("matured"),
        found.sum().alias("joined"),
        (~found & pl.col("late")).sum().alias("late"),
        (matured & ~found & ~pl.col("late")).sum().alias("missing"),
    ).collect(engine="streaming")
    return Coverage(**{name: int(value or 0) for name, value in made.row(0, named=True).items()})


def days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The interval day by day in UTC: joined one after the other, a month takes the memory of a day."""
    at = since
    while at < until:
        midnight = datetime.combine(date.fromordinal(at.toordinal() + 1), datetime.min.time(), at.tzinfo)
        yield at, min(midnight, until)
        at = midnight
