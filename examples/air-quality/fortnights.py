"""The hours of `data/beijing-pm25.csv` as they became known: a file a fortnight, as an owner's data comes in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

SOURCE = Path(__file__).parent / "data" / "beijing-pm25.csv"
LENGTH = timedelta(days=14)
EPOCH = datetime(1970, 1, 1)  # looks of a monitor are counted from here, too
NAMES = {"pm2.5": "pm25", "DEWP": "dew_point", "TEMP": "temperature", "PRES": "pressure", "cbwd": "direction"}
NAMES |= {"Iws": "wind", "Is": "snow", "Ir": "rain"}


def hours() -> pl.DataFrame:
    """Every hour at which fine dust was measured, in order: ``time``, ``pm25`` and the weather as numbers, and the wind's direction."""
    raw = pl.read_csv(SOURCE, null_values=["NA"], infer_schema_length=None)
    weather = [pl.col(name).cast(pl.Float64).alias(new) if name != "cbwd" else pl.col(name).alias(new) for name, new in NAMES.items()]
    return raw.select(pl.datetime("year", "month", "day", "hour").alias("time"), *weather).drop_nulls("pm25").sort("time")


def end_of(time: datetime) -> datetime:
    """The end of the fortnight that *time* lies in."""
    return EPOCH + ((time - EPOCH) // LENGTH + 1) * LENGTH


def split(known: pl.DataFrame, since: datetime, until: datetime) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """The fortnights of *known* from *since* to before *until*: the end of each, and its hours."""
    end = end_of(since)
    while end <= until:
        part = known.filter(pl.col("time").is_between(end - LENGTH, end, closed="left"))
        if part.height:
            yield end, part
        end += LENGTH


def write(folder: Path, end: datetime, part: pl.DataFrame) -> None:
    """Keep the hours of the fortnight that ends at *end* in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    part.write_csv(folder / f"{end - LENGTH:%Y-%m-%d}.csv", datetime_format="%Y-%m-%d %H:%M:%S")
