"""Source files as they come: encodings, headers, delimiters, several files, row groups; the same rows for any number of partitions."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.adapters.s3 import ObjectStore
from perdure.errors import SchemaBroken, SourceChanged, SourceMissing
from perdure.jobs.preparation import ranges
from perdure.jobs.preparation.ranges import partitioned
from perdure.jobs.preparation.reading import Reader, reader
from perdure.jobs.preparation.source import Sources
from perdure.jobs.preparation.text import RAW, REASON, Parsed
from perdure.spec.pipeline import Source

DISK = Sources(cast(ObjectStore, None))  # no test here touches S3


class Read:
    """What a source with *options* at *uri* holds, read partition by partition."""

    def __init__(self, uri: Path, folder: Path, partitions: int = 3, **options: Any) -> None:
        self.reader: Reader = reader(Source.model_validate({"uri": str(uri), **options}), DISK, 64, folder)
        files = DISK.find(str(uri))
        self.columns = self.reader.columns(files)
        self.layout = self.reader.divide(files, partitions)
        self.partitions = partitioned(self.layout.ranges, partitions)

    def all(self) -> Parsed:
        names = [column["name"] for column in self.columns]
        parsed = [p for part in self.partitions for each in part["ranges"] for p in self.reader.read(each, names)]
        return Parsed(pl.concat([p.rows for p in parsed]), pl.concat([p.unreadable for p in parsed]))


def text(tmp_path: Path, body: bytes, **options: Any) -> Read:
    path = tmp_path / "rows.txt"
    path.write_bytes(body)
    return Read(path, tmp_path, **{"format": "csv", **options})


@pytest.mark.parametrize("body", [b"a,b\n1,x\n2,y\n", b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y", b'"a","b"\n"1","x"\n\n2,y\n\n'])
def test_the_same_rows_however_they_are_written(tmp_path: Path, body: bytes) -> None:
    read = text(tmp_path, body)
    assert read.columns == [{"name": "a", "dtype": "Int64"}, {"name": "b", "dtype": "String"}]
    assert read.all().rows.rows() == [("1", "x"), ("2", "y")]


cells = st.text(alphabet='ab,"\n', max_size=5)


@given(st.lists(st.tuples(st.integers(0, 99).map(str), cells), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 200))
@settings(deadline=None)
def test_any_number_of_partitions_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], partitions: int, block: int
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("n", "text"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK", block)
        read = text(tmp_path_factory.mktemp("any"), out.getvalue().encode(), partitions=partitions)
    assert 1 <= len(read.partitions) <= partitions
    assert all(part["bytes"] for part in read.partitions)
    assert read.all().rows.rows() == [(n, value or None) for n, value in rows]
    assert read.all().unreadable.height == 0


def test_partitions_are_of_like_size(tmp_path: Path) -> None:
    read = text(tmp_path, b"a\n" + b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 999, partitions=7)
    sizes = [part["bytes"] for part in read.partitions]
    assert len(sizes) == 7
    assert max(sizes) - min(sizes) <= 700


def test_tsv_does_not_quote_by_itself(tmp_path: Path) -> None:
    read = text(tmp_path, b'ham\t"oh\nspam\t5" wide\n', format="tsv", columns=["label", "text"])
    assert read.all().rows.rows() == [("ham", '"oh'), ("spam", '5" wide')]
    quoting = text(tmp_path, b'ham\t"oh\tno"\n', format="tsv", columns=["label", "text"], quoting=True)
    assert quoting.all().rows.rows() == [("ham", "oh\tno")]


def test_null_values(tmp_path: Path) -> None:
    read = text(tmp_path, b"a,b\nNA,1\n2,\n3,-\n", null_values=["NA", "-"])
    assert read.columns == [{"name": "a", "dtype": "Int64"}, {"name": "b", "dtype": "Int64"}]
    assert read.all().rows.rows() == [(None, "1"), ("2", None), ("3", None)]


@pytest.mark.parametrize("quoting", [True, False])
def test_rows_that_are_none_of_these_columns_are_set_aside(tmp_path: Path, quoting: bool) -> None:
    body = b"a,b\n1,x\nalone\n2,y,more\n3,caf\xe9\n4,\xc3\xbc\nd\xe9j\xe0\n5,z\n6,z\n"
    parsed = text(tmp_path, body, quoting=quoting).all()
    assert parsed.rows.rows() == [("1", "x"), ("4", "ü"), ("5", "z"), ("6", "z")]
    told = sorted(parsed.unreadable.select(REASON, RAW, "a", "b").rows(), key=str)
    assert told == [
        ("1 field instead of 2", "alone", None, None),
        ("1 field instead of 2", "d\ufffdj\ufffd", None, None),
        ("3 fields instead of 2", "2,y,more", None, None),
        ("b: not UTF-8", None, "3", "caf\ufffd"),
    ]


def test_types_come_from_the_first_rows(tmp_path: Path) -> None:
    read = text(tmp_path, b"n,f,b,d,t,code\n1,0.5,true,2026-01-02,2026-01-02T03:04:05,007\n2,1,false,2026-01-03,2026-01-02T03:04:05,1\n")
    assert [column["dtype"] for column in read.columns] == [
        *("Int64", "Float64", "Boolean", "Date"),
        *("Datetime(time_unit='us', time_zone=None)", "String"),
    ]


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (b"ham,hello\nspam,win\n", {"format": "tsv", "columns": ["label", "text"]}, r"1 field instead of 2.*label, text.*delimiter ','"),
        (b"a;b\n1;2\n", {"columns": ["a", "b", "c"]}, "1 field instead of 3"),
        (b"a,a,b\n1,2,3\n", {}, "names a twice"),
        (b"a,,b\n1,2,3\n", {}, "has an empty name"),
        ("a,b\n1,2\n".encode("utf-16"), {}, "UTF-16"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), {}, "gzip"),
        (b"PAR1 and so on", {}, "parquet"),
    ],
)
def test_what_is_written_otherwise_is_refused(tmp_path: Path, body: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaBroken, match=message):
        text(tmp_path, body, **options)


def test_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "all of it"
    folder.mkdir()
    for name, rows in [("b.csv", "3\n4\n"), ("a.csv", "1\n2\n"), ("_SUCCESS", ""), (".hidden", "x"), ("c.csv", "")]:
        (folder / name).write_text(f"n\n{rows}" if rows else "")
    for uri in (folder, Path(f"{folder}/"), folder / "*.csv"):
        read = Read(uri, tmp_path, format="csv", partitions=2)
        assert read.all().rows["n"].to_list() == ["1", "2", "3", "4"]
        assert len(read.partitions) == 2
        assert len(read.layout.files) == 2
    assert DISK.find((folder / "a.csv").as_uri())[0].size == 6
    (folder / "d.csv").write_text("m\n5\n")
    with pytest.raises(SchemaBroken, match=r"d\.csv has the columns m; .*a\.csv has n"):
        Read(folder, tmp_path, format="csv")


def test_many_small_files_share_partitions(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02}.csv").write_text(f"n\n{i}\n")
    read = Read(folder, tmp_path, format="csv", partitions=3)
    assert len(read.partitions) == 3
    assert read.all().rows["n"].to_list() == [str(i) for i in range(20)]


@pytest.mark.parametrize("uri", ["gone.csv", "nothing/", "*.csv"])
def test_a_source_that_is_not_there(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceMissing, match="names no file") as caught:
        DISK.find(f"{tmp_path}/{uri}")
    assert caught.value.field == "data.source.uri"
    assert caught.value.remedy


def test_an_empty_source(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SourceMissing, match="is empty"):
        DISK.find(str(tmp_path / "empty.csv"))


def test_a_source_that_changes(tmp_path: Path) -> None:
    read = text(tmp_path, b"n\n1\n2\n3\n")
    path = tmp_path / "rows.txt"
    path.write_bytes(b"n\n1\n2\n3\n4\n")
    assert read.all().rows.height == 3  # what was appended later does not belong to the plan
    path.write_bytes(b"n\n1\n9\n3\n")
    with pytest.raises(SourceChanged, match="not those that were planned with"):
        read.all()
    path.write_bytes(b"n\n1\n")
    with pytest.raises(SourceChanged):
        read.all()
    path.unlink()
    with pytest.raises(SourceMissing, match="has gone"):
        read.all()


def parquet(tmp_path: Path, frame: pl.DataFrame, partitions: int) -> Read:
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=100)
    return Read(tmp_path / "rows.parquet", tmp_path, partitions, format="parquet")


@pytest.mark.parametrize("partitions", [1, 3, 50])
def test_parquet_by_row_groups(tmp_path: Path, partitions: int) -> None:
    frame = pl.DataFrame(
        {"n": range(1_000), "t": [f"text {i}" for i in range(1_000)], "c": pl.Series(["x", "y"] * 500, dtype=pl.Categorical)}
    )
    read = parquet(tmp_path, frame, partitions)
    assert read.columns == [{"name": "n", "dtype": "Int64"}, {"name": "t", "dtype": "String"}, {"name": "c", "dtype": "String"}]
    assert len(read.partitions) == min(partitions, 10)
    assert read.all().rows.equals(frame.cast({"c": pl.String}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]


def test_parquet_that_changes_or_is_none(tmp_path: Path) -> None:
    read = parquet(tmp_path, pl.DataFrame({"n": range(1_000)}), 2)
    pl.DataFrame({"n": range(1, 1_001)}).write_parquet(tmp_path / "rows.parquet", row_group_size=100)
    with pytest.raises(SourceChanged):
        read.all()
    (tmp_path / "rows.parquet").write_bytes(b"n,m\n1,2\n3,4\n")
    with pytest.raises(SchemaBroken, match="is no parquet file"):
        Read(tmp_path / "rows.parquet", tmp_path, format="parquet")


def test_parquet_files_of_different_columns(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    pl.DataFrame({"n": [1]}).write_parquet(folder / "a.parquet")
    pl.DataFrame({"n": ["1"]}).write_parquet(folder / "b.parquet")
    with pytest.raises(SchemaBroken, match=r"b\.parquet has the columns n \(String\); .*a\.parquet has n \(Int64\)"):
        Read(folder, tmp_path, format="parquet")
