"""Blocks end where records end, whatever the quotes, the chunks and the sizes."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import SchemaBroken
from perdure.jobs.preparation import records
from perdure.jobs.preparation.records import blocks
from perdure.jobs.preparation.text import TextFormat
from perdure.spec.pipeline import Source

NAMES = ["a", "b", "c"]
fields = st.text(alphabet='ab ,"\n\r\tü', max_size=6)
tables = st.lists(st.tuples(fields, fields, fields), min_size=1, max_size=12)


def written(rows: list[tuple[str, ...]], line: str, quoting: int) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator=line, quoting=quoting).writerows(rows)
    return out.getvalue().encode()


def chunks(body: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(at)]


@given(
    tables,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(1, 60),
    st.lists(st.integers(0, 400), max_size=6),
    st.booleans(),
)
def test_blocks_are_whole_records(
    rows: list[tuple[str, ...]], line: str, quoting: int, size: int, cuts: list[int], newline_at_end: bool
) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # which leaves a carriage return unquoted, and that ends a record
        rows = [tuple(value.replace("\r", "") for value in row) for row in rows]
    body = written(rows, line, quoting)
    body = body if newline_at_end else body.removesuffix(line.encode())
    made = list(blocks(chunks(body, cuts), size, delimiter=",", quoting=True))
    assert b"".join(made) == body
    assert all(len(block) >= size for block in made[:-1])
    text = TextFormat(Source(uri="x", format="csv", columns=NAMES))
    whole = text.parse(body, NAMES)
    assert whole.unreadable.height == 0
    assert [row for block in made for row in text.parse(block, NAMES).rows.rows()] == whole.rows.rows()
    assert whole.rows.rows() == [tuple(value or None for value in row) for row in rows]


@given(
    st.lists(st.text(alphabet='ab"\t ', max_size=5), min_size=1, max_size=20), st.integers(1, 20), st.lists(st.integers(0, 99), max_size=4)
)
def test_without_quoting_a_quote_is_a_character(lines: list[str], size: int, cuts: list[int]) -> None:
    body = "\n".join(lines).encode()
    made = list(blocks(chunks(body, cuts), size, delimiter="\t", quoting=False))
    assert b"".join(made) == body
    assert all(block.endswith(b"\n") for block in made[:-1])
    assert all(b"\n" not in block[size - 1 : -1] for block in made)


def test_a_quote_in_the_middle_of_a_field_opens_nothing() -> None:
    body = b'a,5" pipe,c\n' * 3
    assert list(blocks([body], 1, delimiter=",", quoting=True)) == [b'a,5" pipe,c\n'] * 3


@pytest.mark.parametrize("body", [b'a,b,c\n1,"never closed,\n' + b"x,y,z\n" * 9, b'a,"""'])
def test_a_quote_that_is_never_closed(body: bytes) -> None:
    with pytest.raises(SchemaBroken, match="a quoted field is never closed") as caught:
        list(blocks([body], 1, delimiter=",", quoting=True))
    assert caught.value.field == "data.source.quoting"


@pytest.mark.parametrize("quoting", [True, False])
def test_a_record_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, quoting: bool) -> None:
    monkeypatch.setattr(records, "LONGEST", 1_000)
    read = []

    def endless() -> object:
        for _ in range(1_000):
            read.append(1)
            yield b"\0" * 100

    with pytest.raises(SchemaBroken, match="a record has more than"):
        list(blocks(endless(), 50, delimiter=",", quoting=quoting))  # type: ignore[arg-type]
    assert len(read) < 20
