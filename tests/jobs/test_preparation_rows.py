"""Membership depends on the row alone: not on its neighbours, the partition, its label, or rows that come later."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from perdure.jobs.preparation.rows import digests, membership, unsplittable
from perdure.spec.pipeline import Split

values = st.tuples(st.none() | st.text(max_size=4), st.none() | st.integers(-5, 5), st.sampled_from(["yes", "no"]))
SCHEMA = {"text": pl.String, "n": pl.Int64, "label": pl.String}


def frame(rows: list[tuple[str | None, int | None, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def split(rows: list[tuple[str | None, int | None, str]], **changes: object) -> list[str]:
    return membership(frame(rows), Split.model_validate({"test": 0.4, "seed": 3, **changes}), "label", None).to_list()


@given(st.lists(values, min_size=1, max_size=30), st.lists(values, max_size=10), st.integers(0, 30))
def test_by_hash(rows: list[tuple[str | None, int | None, str]], more: list[tuple[str | None, int | None, str]], cut: int) -> None:
    made = split(rows)
    assert split(rows + more)[: len(rows)] == made  # it survives new rows
    assert split(rows[:cut]) + split(rows[cut:]) == made  # and any partition
    relabeled = [(text, n, "other") for text, n, _ in rows]
    assert split(relabeled) == made  # and another label
    by_value = {row[:2]: where for row, where in zip(rows, made, strict=True)}
    assert [by_value[row[:2]] for row in rows] == made  # equal rows fall together


def test_the_share_and_the_seed() -> None:
    rows = [(str(i), i, "yes") for i in range(20_000)]
    one, other = split(rows), split(rows, seed=4)
    assert abs(one.count("test") / len(rows) - 0.4) < 0.02
    both = sum(a == b == "test" for a, b in zip(one, other, strict=True)) / len(rows)
    assert abs(both - 0.16) < 0.02  # another seed is another split


@given(st.lists(values, min_size=1, max_size=30))
def test_by_group(rows: list[tuple[str | None, int | None, str]]) -> None:
    made = split(rows, by="group", column="n")
    groups: dict[int | None, set[str]] = {}
    for (_, n, _), where in zip(rows, made, strict=True):
        groups.setdefault(n, set()).add(where)
    assert all(len(where) == 1 for where in groups.values())
    assert groups.get(None, {None}) == {None}
    lost = unsplittable(frame(rows), Split(by="group", column="n"))
    assert lost["row"].to_list() == [i for i, row in enumerate(rows) if row[1] is None]


def test_by_time() -> None:
    rows = [("a", n, "yes") for n in (1, 5, 3, None, 4)]
    made = membership(frame(rows), Split(by="time", column="n"), "label", 4).to_list()
    assert made == ["train", "test", "train", None, "test"]


@given(
    st.lists(st.tuples(st.text(alphabet="a1:-", max_size=5), st.text(alphabet="a1:-", max_size=5)), min_size=2, max_size=20, unique=True)
)
def test_only_equal_rows_have_equal_digests(rows: list[tuple[str, str]]) -> None:
    made = digests(pl.DataFrame(rows, schema=["a", "b"], orient="row"), 0, 16)
    assert len(set(made)) == len(rows)


def test_digests_do_not_change_between_releases() -> None:
    made = digests(frame([("ü", None, "yes"), (None, 7, "no")]), 5, 8)
    assert [each.hex() for each in made] == ["33e410207636ff4f", "7d7ea284ded7d0a9"]
