"""What the model sees of an hour."""

import polars as pl

WINDS = ("NW", "NE", "SE", "cv")


def features(frame: pl.DataFrame) -> pl.DataFrame:
    """One row of numbers for each hour: the weather, where the wind comes from, the time of day. Nothing tells the season."""
    return frame.select(
        pl.col("dew_point", "temperature", "pressure", "wind", "snow", "rain").cast(pl.Float32),
        pl.col("time").dt.hour().cast(pl.Float32).alias("hour"),
        *((pl.col("direction") == name).cast(pl.Float32).alias(f"wind {name}") for name in WINDS),
    )
