"""What a raw row must look like. In a module of its own, so that whoever scores hours needs no pandera."""

import pandera.polars as pa
import polars as pl


class Hour(pa.DataFrameModel):
    """One hour at one place."""

    time: pl.Datetime
    pm25: float = pa.Field(ge=0, le=2_000)
    dew_point: float = pa.Field(ge=-60, le=60)
    temperature: float = pa.Field(ge=-60, le=60)
    pressure: float = pa.Field(ge=800, le=1_200)
    wind: float = pa.Field(ge=0)
    snow: float = pa.Field(ge=0)
    rain: float = pa.Field(ge=0)
    direction: str = pa.Field(isin=["NW", "NE", "SE", "cv"])
