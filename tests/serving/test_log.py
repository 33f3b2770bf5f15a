"""The inference log: spool, commits, kills."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import polars as pl
import pytest

from perdure.adapters.delta_log import DeltaLog, fitted, in_one, plain, together, whole
from perdure.errors import ObjectsUnavailable
from perdure.metadata.repository.asking import AskRows, Wanted
from perdure.predictions import new_request, prediction_id
from perdure.serving import log as log_module
from perdure.serving.keeping import Policies
from perdure.serving.log import InferenceLog, Keeping
from perdure.serving.rows import hasher
from perdure.serving.scored import AskPolicy, LogPolicy, Scored
from perdure.serving.spool import Spool, read


class Folder:
    """Objects in a folder, for delta-rs; unreachable where told so."""

    away = False

    def storage_options(self) -> dict[str, str]:
        if self.away:
            raise OSError("away")
        return {}

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        return iter(())


class Ledger:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID, int, int]] = []

    def ended(self, instance: UUID, taken: int, logged: int) -> None:
        self.told.append((instance, taken, logged))

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        yield True


POLICY = LogPolicy(personal=frozenset({"name"}))


def scored(rows: int = 1, policy: LogPolicy = POLICY, version: int = 1, **inputs: object) -> Scored:
    columns = {"name": ["ann"] * rows, "amount": [1.5] * rows, **{key: [value] * rows for key, value in inputs.items()}}
    return Scored(
        model="m",
        version=version,
        role="release",
        rows=pl.DataFrame(columns),
        scores=pl.DataFrame({"p_a": [0.25] * rows, "p_b": [0.75] * rows, "prediction": ["b"] * rows}),
        ids=[prediction_id("m", version, new_request()) for _ in range(rows)],
        units=[None] * rows,
        traces=["0af7651916cd43dd8448eb211c80319c"] * rows,
        latencies=[1.5] * rows,
        policy=policy,
    )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    made: list[InferenceLog] = []

    def make(folder: Folder | None = None, ledger: Ledger | None = None, **keeping: object) -> InferenceLog:
        values = {"root": tmp_path / "spool", "seconds": 0.05, **keeping}
        tables = lambda model: DeltaLog(folder or Folder(), str(tmp_path / "inference" / model))  # noqa: E731
        made.append(InferenceLog(uuid4(), Keeping(**values), tables, ledger or Ledger()))
        return made[-1]

    yield make
    for each in made:
        each.close(5)


def table(tmp_path: Path, model: str = "m") -> pl.DataFrame:
    rows = DeltaLog(Folder(), str(tmp_path / "inference" / model)).scan()
    assert rows is not None
    return rows.collect()


def until(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_predictions_become_rows_without_personal_columns(tmp_path: Path, opened) -> None:
    log = opened()
    sent = [scored(3), scored(2, version=2, amount=2)]  # another version, another type
    for each in sent:
        log.record(each)
    until(lambda: log.figures().logged == 5)
    rows = table(tmp_path).sort("sequence")
    assert rows.get_column("id").to_list() == [*sent[0].ids, *sent[1].ids]
    assert rows.get_column("sequence").to_list() == [1, 2, 3, 4, 5]
    assert "input.name" not in rows.columns
    assert rows.get_column("input.amount").to_list() == [1.5, 1.5, 1.5, 2.0, 2.0]
    assert rows.get_column("p.b").to_list() == [0.75] * 5
    assert rows.get_column("prediction").to_list() == ["b"] * 5
    assert set(rows.get_column("version")) == {1, 2}
    assert (rows.get_column("time").dt.date() == rows.get_column("date")).all()
    assert log.figures().waiting == 0
    assert log.figures().spool_bytes == 0


def test_personal_columns_are_hashed_with_a_secret_only(tmp_path: Path, opened) -> None:
    policy = LogPolicy(personal=frozenset({"name"}), treat="hash")
    hashed, without = opened(hashed=hasher("secret")), opened()
    hashed.record(scored(2, policy))
    without.record(scored(1, policy))
    until(lambda: hashed.figures().logged + without.figures().logged == 3)
    names = table(tmp_path).get_column("input.name").to_list()
    assert names.count(None) == 1
    (name,) = {each for each in names if each is not None}  # equal values are equal still
    assert name.startswith("hmac:")
    assert hasher("secret")("ann") == name != hasher("other")("ann")


def test_a_unit_that_is_personal_is_hashed_or_left_out(tmp_path: Path, opened) -> None:
    mine = replace(scored(2), units=["ann", None], unit_column="name")
    other = replace(scored(), units=["u1"], unit_column="amount")
    hashed, without = opened(hashed=hasher("secret")), opened()
    hashed.record(mine)
    hashed.record(other)
    without.record(mine)
    until(lambda: hashed.figures().logged + without.figures().logged == 5)
    units = table(tmp_path).get_column("unit").to_list()
    assert sorted(each for each in units if each is not None) == [hasher("secret")("ann"), "u1"]


def test_a_sample_takes_its_share_of_requests_and_the_same_of_every_version(tmp_path: Path, opened) -> None:
    log, policy = opened(), LogPolicy(sample=0.25)
    one = scored(1_000, policy)
    log.record(one)
    log.record(replace(one, version=2, ids=[f"m.2.{id[-32:]}" for id in one.ids]))
    until(lambda: log.figures().logged == log.figures().taken > 0)
    rows = table(tmp_path).with_columns(request=pl.col("id").str.tail(32))
    assert 180 < rows.filter(version=1).height < 320
    assert set(rows.filter(version=1)["request"]) == set(rows.filter(version=2)["request"])


def test_what_the_disk_cannot_hold_is_dropped_and_counted_and_nobody_waits(tmp_path: Path, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder()
    folder.away = True
    log = opened(folder, most_bytes=400_000)
    took = []
    for _ in range(30):
        each = scored(500)
        began = time.perf_counter()
        log.record(each)
        took.append(time.perf_counter() - began)
        time.sleep(0.01)
    until(lambda: log.figures().dropped > 0)
    assert sorted(took)[25] < 0.005
    assert log.figures().spool_bytes <= 400_000
    folder.away = False
    until(lambda: log.figures().waiting == 0)
    figures = log.figures()
    assert figures.taken == 15_000 == figures.logged + figures.dropped
    assert table(tmp_path).height == figures.logged
    monkeypatch.setattr(log_module, "MOST_QUEUED", 10)
    before = figures.dropped
    log.record(scored(11))
    assert log.figures().dropped == before + 11


def test_a_segment_that_is_committed_already_is_not_committed_again(tmp_path: Path, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(self: Spool, path: Path) -> None:
        raise OSError("killed between the commit and this")

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "remove", died)
        first = opened()
        first.record(scored(4))
        until(lambda: (tmp_path / "inference/m/_delta_log").exists() and table(tmp_path).height == 4)
        first.record(scored(3))
        until(lambda: table(tmp_path).height == 7)
        first.close(5)
    ledger = Ledger()
    second = opened(ledger=ledger)  # takes over what the first left
    until(lambda: ledger.told)
    assert ledger.told == [(first._spool.instance, 7, 7)]
    assert table(tmp_path).get_column("sequence").sort().to_list() == [1, 2, 3, 4, 5, 6, 7]
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [str(second._spool.instance)]


def test_a_model_whose_table_fails_and_people_who_cannot_be_asked_hold_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def choose(self, model: str, policy: LogPolicy, rows: pl.DataFrame) -> None:
            raise OSError("no room for questions")

    broken = [True]

    def tables(model: str) -> DeltaLog:
        if model == "a" and broken:
            raise ObjectsUnavailable("this table only")
        return DeltaLog(Folder(), str(tmp_path / "inference" / model))

    ask = AskPolicy(random=1, confident_below=0, most_open=9, columns=None, campaign={})
    log = InferenceLog(uuid4(), Keeping(root=tmp_path / "spool", seconds=0.05), tables, Ledger(), Nobody())
    monkeypatch.setattr(log_module, "_LONGEST", 0.1)
    for model in ("a", "b"):
        log.record(replace(scored(2, replace(POLICY, ask=ask)), model=model))
    until(lambda: log.figures().logged == 2)
    assert table(tmp_path, "b").height == 2
    assert (log.figures().dropped, log.figures().waiting) == (0, 2)
    broken.clear()
    until(lambda: log.figures().logged == 4)
    log.close(5)
    assert table(tmp_path, "a").height == 2


def test_policies_that_cannot_be_read_leave_personal_columns_out() -> None:
    class Rows:
        def wanted(self) -> list[Wanted]:
            raise ValueError("a specification that nobody can read")

    policies = Policies(cast(AskRows, Rows()))
    assert policies.of("m", ["name"]) == LogPolicy(personal=frozenset({"name"}), treat="drop")
    assert policies._thread.is_alive()
    policies.close()


def test_columns_whose_types_have_nothing_in_common_become_several() -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    parts = [pl.DataFrame({"a": [at], "b": [1]}), pl.DataFrame({"a": [True], "b": [2.5]}), pl.DataFrame({"b": [3]})]
    rows = together(parts, {"b": pl.Float64()})
    assert rows["a"].to_list() == [at, None, None]
    assert rows["a (boolean)"].to_list() == [None, True, None]
    assert rows["b"].to_list() == [1.0, 2.5, 3.0]


def test_a_folder_is_owned_by_one_and_an_empty_one_by_nobody(tmp_path: Path) -> None:
    (tmp_path / str(uuid4())).mkdir()  # killed before it wrote anything
    assert [*Spool.dead(tmp_path)] == []
    assert [*tmp_path.iterdir()] == []
    id = uuid4()
    spool = Spool(tmp_path, id)
    file = os.open(spool.folder / "lock", os.O_RDWR)  # as one who has looked just before the folder goes
    spool.close()
    assert not spool.folder.exists()
    again = Spool(tmp_path, id)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what is locked there is not the folder's lock any more
    assert [*Spool.dead(tmp_path)] == []
    os.close(file)
    again.close()


WRITER = """
import sys, time
from pathlib import Path
from typing import cast
from uuid import UUID
from tests.serving.test_log import DeltaLog, Folder, InferenceLog, Keeping, Ledger, scored
home = Path(sys.argv[1])
table = lambda model: DeltaLog(Folder(), str(home / "inference" / model))
log = InferenceLog(UUID(sys.argv[2]), Keeping(root=home / "spool", seconds=0.2), table, Ledger())
while True:
    log.record(scored(7))
    print(log.figures().taken, flush=True)
    time.sleep(0.001)
"""


def test_kill_9_loses_no_more_than_what_was_in_memory_and_tells_how_much(tmp_path: Path, opened) -> None:
    id = uuid4()
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(id)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answered = next(count for count in map(int, process.stdout) if count >= 2_000)
    os.kill(process.pid, signal.SIGKILL)
    answered = max([answered, *map(int, process.stdout.read().split())])
    process.stdout.close()
    process.wait()
    ledger = Ledger()
    opened(ledger=ledger)
    until(lambda: ledger.told)
    [(instance, taken, logged)] = ledger.told
    assert instance == id
    assert answered <= taken <= answered + 7  # killed between a row and its line, at most
    sequence = table(tmp_path).get_column("sequence").sort().to_list()
    assert sequence == list(range(1, logged + 1))  # the end alone is missing, and how much of it is known
    assert taken - logged < 1_000  # a fraction of a second, not the seconds between commits


def test_a_chunk_that_was_cut_off_ends_its_segment(tmp_path: Path) -> None:
    spool = Spool(tmp_path, uuid4())
    for value in (1, 2):
        assert spool.write("m", pl.DataFrame({"a": [value]}))
    spool.seal()
    (path,) = spool.segments()["m"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert [chunk["a"].item() for chunk in read(path)] == [1]
    path.write_bytes(whole + b"\x07")
    assert [chunk["a"].item() for chunk in read(path)] == [1, 2]
    assert [*Spool.dead(tmp_path)] == []  # it lives
    with pytest.raises(RuntimeError, match="in use"):
        Spool(tmp_path, spool.instance)
    spool.close()


def test_types_of_a_table_stay_what_they_are() -> None:
    rows = plain(pl.DataFrame({"a": pl.Series([1], dtype=pl.UInt8), "b": [2.0], "c": ["x"], "d": [None], "e": [2.5]}))
    assert rows.schema == {"a": pl.Int64, "b": pl.Float64, "c": pl.String, "e": pl.Float64}
    made = fitted(rows, {"a": pl.Float64(), "b": pl.Int64(), "c": pl.Int64(), "e": pl.Int64()})
    assert made.to_dicts() == [{"a": 1.0, "b": 2, "c (string)": "x", "e (double)": 2.5}]
    table = pl.concat([pl.DataFrame({"a": [0.0], "b": [1], "c": [3], "e": [4]}), made], how="diagonal")
    assert [whole(row) for row in table.to_dicts()] == [{"a": 0.0, "b": 1, "c": 3, "e": 4}, {"a": 1.0, "b": 2, "c": "x", "e": 2.5}]
    read = in_one(table.lazy(), {"c": pl.String(), "e": pl.Float32(), "f": pl.Int64()}).collect()
    assert read.to_dict(as_series=False) == {"a": [0.0, 1.0], "b": [1, 2], "c": ["3", "x"], "e": [4.0, 2.5]}
