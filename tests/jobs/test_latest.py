"""The fence: what a stale writer can not do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.config import S3Settings
from perdure.errors import Conflict, CorruptArtifact, InvalidInput
from perdure.jobs.latest import Fenced, RunState
from perdure.messages.jobs import ControlCommand, Latest
from tests.servers import Stack


@pytest.fixture(scope="module")
def s3(stack: Stack) -> S3Settings:
    return stack.isolated().s3


@pytest.fixture(scope="module")
def objects(s3: S3Settings) -> ObjectStore:
    return ObjectStore(s3)


@pytest.fixture
def run(objects: ObjectStore) -> RunState:
    return RunState(objects, str(uuid4()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")
    (folder / "parts" / "0").write_bytes(b"p")
    return folder


def same(run: RunState, epoch: int = 0) -> RunState:
    return RunState(run.objects, run.job, epoch)


def test_the_first_writer_and_its_result(run: RunState) -> None:
    assert run.latest() == Latest()
    assert run.acquire("a").epoch == 1
    assert run.acquire("a").epoch == 1  # a repeated call
    run.publish_result({"rounds": 3})
    run.publish_result({"rounds": 3})  # the same again, as after a lost answer
    with pytest.raises(Fenced, match="ended"):
        run.publish_result({"rounds": 4})
    with pytest.raises(Fenced):
        run.publish_error(InvalidInput("no"))
    assert same(run).acquire("b") == run.latest()  # no epoch is taken of a job that has ended
    assert run.latest().result == {"rounds": 3}


def test_a_newer_epoch_refuses_everything_of_an_older_one(run: RunState, model: Path) -> None:
    run.acquire("old")
    run.save_checkpoint(10, {"loss": 0.5}, model)
    new = same(run)
    state = new.acquire("new")
    assert (state.epoch, state.checkpoint and state.checkpoint.round) == (2, 10)
    for attempt in (
        lambda: run.save_checkpoint(20, {}, model),
        lambda: run.publish_result({}),
        lambda: run.publish_error(InvalidInput("no")),
        lambda: run.publish_pause(10),
        lambda: run.renew("old again"),
    ):
        with pytest.raises(Fenced, match="superseded by 2"):
            attempt()
    assert run.latest() == state


def test_a_round_that_is_saved_again_writes_over_nothing(run: RunState, model: Path, tmp_path: Path) -> None:
    run.acquire("a")
    first = run.save_checkpoint(10, {"loss": 0.5}, model)
    (model / "weights").write_bytes(b"better")
    assert run.save_checkpoint(10, {"loss": 0.4}, model).key != first.key
    run.load_checkpoint(first, tmp_path / "first")  # its bytes are those that were named
    run.load_checkpoint(run.latest().checkpoint or first, tmp_path / "last")
    assert (tmp_path / "last" / "weights").read_bytes() == b"better"


def test_checkpoints_are_verified_kept_and_deleted_after_the_commit(run: RunState, model: Path, tmp_path: Path) -> None:
    run.acquire("a")
    for round in (10, 20, 30):
        (model / "weights").write_bytes(b"w%d" % round)
        run.save_checkpoint(round, {"loss": 1 / round}, model, keep=2)
    state = run.latest()
    assert [point.round for point in state.kept] == [20, 30]
    assert not [*run.objects.list(run.key("e0001/round-00000010"))]
    assert state.checkpoint
    assert state.checkpoint.metrics == {"loss": 1 / 30}
    run.load_checkpoint(state.checkpoint, tmp_path / "back")
    assert (tmp_path / "back" / "weights").read_bytes() == b"w30"
    assert (tmp_path / "back" / "parts" / "0").read_bytes() == b"p"
    run.objects.write(run.key(f"{state.checkpoint.key}/weights"), b"bad")
    with pytest.raises(CorruptArtifact):
        run.load_checkpoint(state.checkpoint, tmp_path / "again")


def test_a_group_takes_an_epoch_of_its_own(run: RunState, model: Path) -> None:
    run.acquire("driver")
    lost = same(run, run.epoch)  # a worker's view
    assert run.renew("driver#1").epoch == 2
    assert run.renew("driver#1").epoch == 2
    with pytest.raises(Fenced):
        lost.save_checkpoint(5, {}, model)
    run.save_checkpoint(5, {}, model)


def test_pause_and_error_are_cleared_for_the_next_start(run: RunState) -> None:
    files = S3JobFiles(run.objects)
    assert run.control() is ControlCommand.RUN
    files.control(run.job, ControlCommand.PAUSE)
    assert run.control() is ControlCommand.PAUSE
    run.acquire("a")
    run.publish_pause(7)
    assert files.latest(run.job).paused == 7
    assert same(run).acquire("b").paused is None
    files.reopen(run.job)
    assert run.latest().epoch == 2  # nothing to clear
    again = same(run, 2)
    again.publish_error(InvalidInput("no such column", field="data.target.column"))
    assert (run.latest().error or {})["field"] == "data.target.column"
    files.reopen(run.job)
    assert (run.latest().error, run.latest().epoch) == (None, 3)
    with pytest.raises(Fenced):
        again.publish_result({})


def test_status_follows_the_epoch(run: RunState) -> None:
    run.acquire("old")
    run.put_status({"round": 999})
    new = same(run)
    new.acquire("new")
    assert run.status(new.epoch) == {}
    new.put_status({"round": 1})
    assert run.status(run.latest().epoch) == {"round": 1}


class Repeating(ObjectStore):
    """Every conditional PUT is applied, its answer lost, and sent again: as botocore may do."""

    def write(self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> None:
        super().write(key, body, if_match=if_match, if_none_match=if_none_match)
        super().write(key, body, if_match=if_match, if_none_match=if_none_match)


def test_a_repeated_swap_is_one_change(s3: S3Settings, model: Path) -> None:
    run = RunState(Repeating(s3), str(uuid4()))
    with pytest.raises(Conflict):
        run.objects.write("once", b"1", if_none_match=True)
    assert run.acquire("a").epoch == 1
    assert run.renew("a#1").epoch == 2
    run.save_checkpoint(10, {}, model)
    assert run.publish_result({"rounds": 10}) == run.latest()
    assert (run.latest().epoch, len(run.latest().kept)) == (2, 1)


def test_of_many_writers_each_gets_an_epoch_and_the_last_one_counts(run: RunState) -> None:
    def write(number: int) -> bool:
        writer = same(run)
        try:
            writer.acquire(f"writer {number}")
            writer.publish_result({"epoch": writer.epoch})
        except Fenced:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(write, range(4)))
    state = run.latest()
    assert (won >= 1, state.result) == (True, {"epoch": state.epoch})


OLD = """
import os, signal, sys
from pathlib import Path
from perdure.adapters.s3 import ObjectStore
from perdure.config import S3Settings
from perdure.jobs.latest import Fenced, RunState
run = RunState(ObjectStore(S3Settings.model_validate_json(sys.argv[1])), sys.argv[2])
run.acquire("old")
run.save_checkpoint(10, {}, Path(sys.argv[3]))
os.kill(os.getpid(), signal.SIGSTOP)
run.put_status({"round": 999})
refused = 0
for attempt in (lambda: run.save_checkpoint(20, {}, Path(sys.argv[3])), lambda: run.publish_result({"by": "old"})):
    try:
        attempt()
    except Fenced:
        refused += 1
sys.exit(refused)
"""


def test_a_writer_that_was_stopped_and_wakes_up_changes_nothing(s3: S3Settings, run: RunState, model: Path) -> None:
    old = subprocess.Popen([sys.executable, "-c", OLD, s3.model_dump_json(), run.job, str(model)])
    os.waitpid(old.pid, os.WUNTRACED)
    state = run.acquire("new")
    assert state.checkpoint
    assert state.checkpoint.round == 10
    run.save_checkpoint(20, {"loss": 0.1}, model)
    run.put_status({"round": 20})
    before = run.latest()
    os.kill(old.pid, signal.SIGCONT)
    assert old.wait(60) == 2  # both attempts were refused
    assert run.latest() == before
    assert run.status(before.epoch) == {"round": 20}
    named = {f"{point.key}/{name}" for point in before.kept for name in point.files}
    written = {key.removeprefix(run.key("")) for key, _ in run.objects.list(run.key("e"))}
    assert {name for name in written - named if "round" in name} == {"e0001/round-00000020/weights", "e0001/round-00000020/parts/0"}
    run.publish_result({"by": "new"})
    assert json.loads((run.objects.read(run.key("latest")) or (b"",))[0])["result"] == {"by": "new"}
