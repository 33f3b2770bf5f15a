"""Predictions and what became known about them: rows of the inference log with the outcome of each that counts.

Of several outcomes of a prediction the one that was observed last counts, of those the one that was received last. A shadow's prediction
gets the outcome of the request that it shares. With a window it is deterministic once the interval has matured: an outcome that was
received later than *window* after its prediction counts as late and changes nothing, so whoever looks again gets what was seen first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from perdure.outcomes import Told
from perdure.predictions import REQUEST

ANSWERED = ("release", "canary", "arm")
"""The roles whose predictions somebody got."""
TRUTH, NUMBER, OBSERVED, SOURCE, RAW = "truth", "truth.number", "truth.observed_at", "truth.source", "truth.raw"
_MOMENT = pl.Datetime("us", "UTC")
_TOLD: dict[str, Any] = dict.fromkeys(("prediction_id", "source", "value"), pl.String) | dict.fromkeys(
    ("observed_at", "received_at"), _MOMENT
)


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


def frame(told: Iterable[Told]) -> pl.DataFrame:
    """Outcomes with the columns and types of `perdure.outcomes.OutcomeFiles`."""
    return pl.DataFrame([{**asdict(each), "value": json.dumps(each.value, ensure_ascii=False)} for each in told], schema=_TOLD)


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
    """The predictions made from *since* to before *until*, `with_truth`.

    Lazy: select what is needed, and collect with the streaming engine.
    """
    made = log.filter(
        pl.col("date").is_between(since.date(), until.date()),
        pl.col("time").is_between(since, until, closed="left"),
        pl.col("role").is_in([*roles]),
    )
    mine = None if outcomes is None else outcomes.filter(_made().is_between(since, until, closed="left"))
    return with_truth(made, mine, window=window, sources=sources)


def with_truth(
    rows: pl.LazyFrame,
    outcomes: pl.LazyFrame | None,
    *,
    window: timedelta | None = None,
    sources: Sequence[str] | None = None,
    known: bool = False,
) -> pl.LazyFrame:
    """*rows*, which have an ``id``, with `TRUTH` (a class as text), `NUMBER`, `OBSERVED`, `SOURCE`, `RAW` (JSON) and ``late``.

    They are null where no outcome came (within *window*), and ``late`` says that one came after it. `TRUTH` and `NUMBER` are null also
    where the outcome is no class, and no finite number. *outcomes* has the columns of `perdure.outcomes.OutcomeFiles`; *sources* are
    those that count (None: all). *known*: only rows with an outcome.
    """
    told = frame([]).lazy() if outcomes is None else outcomes
    if sources is not None:
        told = told.filter(pl.col("source").is_in([*sources]))
    intime = pl.lit(True) if window is None else pl.col("received_at") <= _made() + window
    told = told.with_columns(intime.alias("_intime"), _request=pl.col("prediction_id").str.tail(REQUEST))
    order = [pl.col(name).filter("_intime") for name in ("observed_at", "received_at", "source")]
    kept = (("value", RAW), ("observed_at", OBSERVED), ("source", SOURCE))
    last = told.group_by("_request").agg(
        *(pl.col(name).filter("_intime").sort_by(order).last().alias(called) for name, called in kept),
        (~pl.col("_intime")).all().alias("late"),
    )
    text = _text(pl.col(RAW))
    last = last.with_columns(whole(text).alias(TRUTH), _number(text).alias(NUMBER))
    both = rows.with_columns(_request=pl.col("id").str.tail(REQUEST)).join(last, on="_request", how="inner" if known else "left")
    return both.drop("_request").with_columns(pl.col("late").fill_null(False))


def errors(frame: pl.DataFrame, label: str, task: str) -> pl.DataFrame:
    """*frame* with ``error``: 1 for a wrong class, or how far a number is off. ``prediction`` is compared with the column *label*."""
    return frame.with_columns(error(task, pl.col(label)).alias("error"))


def error(task: str, label: pl.Expr) -> pl.Expr:
    """1 where ``prediction`` is another class than *label*, or how far it is off."""
    prediction = pl.col("prediction")
    if task == "classification":
        return (whole(prediction.cast(pl.String)) != whole(label.cast(pl.String))).cast(pl.Float64)
    return (prediction.cast(pl.Float64, strict=False) - label.cast(pl.Float64)).abs()


def whole(text: pl.Expr) -> pl.Expr:
    """A class as text; a whole number without its decimal point, so that 1 and 1.0 are one class."""
    return text.str.replace(r"^(-?\d+)\.0+$", "$1")


def _made() -> pl.Expr:
    """When the predictions were made that outcomes are about."""
    stamp = pl.col("prediction_id").str.tail(REQUEST).str.head(12).str.to_integer(base=16, dtype=pl.Int64)
    return stamp.cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us")


def _text(raw: pl.Expr) -> pl.Expr:
    """A text, number or truth value in JSON as text; null for all else."""
    quoted = pl.when(raw.str.starts_with('"')).then(raw).str.json_decode(pl.String)
    return pl.coalesce(quoted, pl.when(~raw.str.contains(r'^(null|\{|\[|")')).then(raw))


def _number(text: pl.Expr) -> pl.Expr:
    """A finite number; true and false are 1 and 0."""
    number = text.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def coverage(frame: pl.LazyFrame, *, window: timedelta, now: datetime) -> Coverage:
    """How much of *frame* (of `joined`) has its outcome at *now*. Streams."""
    matured, found = pl.col("time") <= now - window, pl.col(RAW).is_not_null()
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
