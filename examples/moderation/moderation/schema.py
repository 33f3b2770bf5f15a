"""What a raw row must look like. In a module of its own, so that whoever scores messages needs no pandera."""

import pandera.polars as pa


class Message(pa.DataFrameModel):
    """A text message and what it is. The text is personal: no report shows one."""

    label: str = pa.Field(isin=["ham", "spam"])
    text: str = pa.Field(str_length={"min_value": 1, "max_value": 2_000}, metadata={"pii": True})
