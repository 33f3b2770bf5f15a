"""Raw values as JSON has them, into columns."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.errors import InvalidInput
from perdure.predictor import parse_temporal
from perdure.serving.reading import Reader

DIGITS = st.integers(0, 99).map("{:02}".format)
YEARS = st.sampled_from(["0000", "0001", "1969", "2024", "2026", "9999"])
OFFSETS = st.one_of(
    st.sampled_from(["", "", "Z", "+00:00", "-00:30"]), st.tuples(st.sampled_from("+-"), DIGITS, DIGITS).map("{0[0]}{0[1]}:{0[2]}".format)
)
DAYS = st.tuples(YEARS, st.sampled_from(["01", "02", "12", "13"]), DIGITS).map("-".join)
MOMENTS = st.builds(
    "{}{}{}:{}:{}{}".format, DAYS, st.sampled_from("T "), st.sampled_from(["00", "09", "23", "24"]), DIGITS, DIGITS, OFFSETS
)
TYPES = (
    pl.Date(),
    pl.Datetime("us"),
    pl.Datetime("ms"),
    pl.Datetime("ns"),
    pl.Datetime("us", "UTC"),
    pl.Datetime("ms", "Europe/Berlin"),
)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@given(text=st.one_of(DAYS, MOMENTS))
@example(text="2024-02-29")
@example(text="2024-03-31 02:30:00")
@example(text="2024-02-29T23:59:60")
@example(text="2024-02-29T10:00:00.5")
@example(text="2026-10-25T00:30:00Z")
@example(text="2024-03-31T00:30:00+01:60")
def test_the_short_way_to_a_time_reads_what_the_long_one_does(dtype: Any, text: str) -> None:
    wanted = parse_temporal(pl.Series("at", [text, None], dtype=pl.String), dtype)
    reader = Reader([{"name": "at", "dtype": str(dtype)}])
    if wanted.null_count() == 2:
        with pytest.raises(InvalidInput, match=r"no date or time"):
            reader.columns({"at": [text, None]})
    else:
        [made] = reader.columns({"at": [text, None]})
        assert isinstance(made, pl.Series)
        assert made.equals(wanted, check_dtypes=True)
