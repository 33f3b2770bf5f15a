"""The command line on real servers and a real worker: what a user does from `apply` to `lineage`, and what is killed meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.cli.exits import Exit
from perdure.config import Settings
from perdure.local import stack as local
from perdure.messages.common import ArtifactRef
from perdure.metadata.upgrade import upgrade
from tests.cli.conftest import Call, document
from tests.servers import Stack

pytest.importorskip("xgboost")

SPEC = """\
name: {name}
data:
  source: {{uri: {uri}, format: csv}}
  target: {{column: big, positive: "yes"}}
  transform: live_steps:apply
  partitions: 2
train: {{engine: local, params: {{objective: binary:logistic, rounds: {rounds}, max_depth: 2}}, checkpoint: {{every_rounds: 5}}}}
evaluate: {{metrics: [roc_auc, accuracy], gates: [{{metric: roc_auc, min: {least}}}]}}
promote: {{approval: {{required: {required}, approvers: [{approvers}]}}}}
"""
CODE = "import polars as pl\n\ndef apply(frame):\n    return frame.select(a=pl.col('a'), b=pl.col('b'))\n"


@pytest.fixture(scope="module")
def environment(stack: Stack) -> Iterator[dict[str, str]]:
    """Variables of a database and bucket of this module's own; every command of it reads them."""
    settings = stack.isolated()
    upgrade(settings)
    variables = stack.environment(settings) | {"PERDURE_ACTOR": "ada"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def project(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes specifications beside one source and one module of code."""
    folder = tmp_path_factory.mktemp("project")
    dice = random.Random(7)
    rows = [(dice.random(), dice.random()) for _ in range(400)]
    lines = [f"{a:.4f},{b:.4f},{'yes' if a + b > 1 else 'no'}" for a, b in rows]
    (folder / "rows.csv").write_text("a,b,big\n" + "\n".join(lines) + "\n")
    (folder / "live_steps.py").write_text(CODE)

    def write(name: str, **values: Any) -> Path:
        given = {"uri": "rows.csv", "rounds": 10, "least": 0.8, "required": 0, "approvers": ""} | values
        path = folder / f"{name}.yaml"
        path.write_text(SPEC.format(name=name, **given))
        return path

    return write


@pytest.fixture(scope="module")
def worker(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A worker process (its id); it is drained at the end."""
    path = tmp_path_factory.mktemp("worker") / "log"
    with path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "perdure.workers"], env=os.environ | environment, stdout=log, stderr=log)
        eventually(lambda: "worker ready" in path.read_text())
        yield process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def perdure(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as a shell starts it."""
    return subprocess.run([sys.executable, "-m", "perdure.cli.main", *map(str, arguments)], capture_output=True, text=True, timeout=120)


@contextmanager
def watching(run: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-m", "perdure.cli.main", "watch", run], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def state(call: Call, run: str) -> str:
    return str(document(call("show", run, "--json"))["run"]["state"])


def test_commands_end_with_their_code_however_soon_they_end(call: Call, project: Callable[..., Path]) -> None:
    """Temporal's client crashes an interpreter that ends right after a call (every third time); the entry point prevents it."""
    assert call("apply", project("early", uri="gone.csv")).exit_code == 0
    codes = [perdure("run", "early", "--detach", "--key", f"k{number % 4}").returncode for number in range(5)]
    assert codes == [0] * 4 + [Exit.CONFLICT]


def test_a_run_that_nobody_takes_up(call: Call, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.cli.watching.QUEUE", "nobody")  # Temporal remembers for minutes who listened to the real one
    assert call("apply", project("lonely", uri="gone.csv")).exit_code == 0
    assert call("run", "lonely", "--detach", "--key", "k0").exit_code == 0
    result = call("watch", "lonely/k0", "--timeout", "8")
    assert result.exit_code == Exit.UNFINISHED
    assert "no worker is there to take it up; `perdure up` starts one" in result.stdout
    assert call("watch", "lonely/other").exit_code == Exit.NOT_FOUND
    told = call("pause", "lonely")
    assert told.exit_code == Exit.NOT_FOUND
    assert "there is no run 'lonely'" in told.stderr


def test_from_file_to_model(call: Call, project: Callable[..., Path], worker: int, tmp_path: Path) -> None:
    result = call("run", project("live"), "--key", "first", "-p", "rounds=12")
    assert result.exit_code == 0, result.output
    lines = [line.partition(" ")[2] for line in result.stdout.splitlines()]
    assert lines[0] == "run/live/first, version 1 of live, started by ada"
    assert any(line.startswith("train: succeeded in") and "live version 1, 12 rounds" in line for line in lines)
    assert "live version 1 is released: all gates passed" in result.stdout
    assert "perdure predict live rows.json" in result.stderr

    shown = call("show", "live")
    assert shown.exit_code == 0
    assert re.search(r"^params +rounds=12$", shown.stdout, re.MULTILINE)
    assert "passed  all rows  roc_auc" in shown.stdout
    detail = document(call("show", "first", "--json"))
    assert detail["run"]["state"] == "succeeded"
    assert {step["step"] for step in detail["steps"]} == {"prepare", "train", "evaluate", "promote"}
    assert [run["workflow_id"] for run in document(call("runs", "live", "--json"))] == ["run/live/first"]
    assert "run/live/first  succeeded" in call("runs", "--state", "succeeded").stdout
    assert [model["serves"] for model in document(call("models", "--json")) if model["model"] == "live"] == [1]
    assert "all gates passed" in call("models", "show", "live").stdout
    assert "prepare" in call("logs", "live").stdout

    (tmp_path / "rows.json").write_text('[{"a": 0.9, "b": 0.9}, {"a": 0.1, "b": 0.1}]')
    scored = document(call("predict", "live", tmp_path / "rows.json"))
    assert [row["prediction"] for row in scored] == ["yes", "no"]
    assert document(call("predict", "live@1", tmp_path / "rows.json", "--json")) == {
        "model": "live",
        "version": 1,
        "sha256": detail["predictor_sha256"],
        "predictions": scored,
    }
    assert call("predict", "live@9", tmp_path / "rows.json").exit_code == Exit.NOT_FOUND

    origin = document(call("lineage", "live", "--json"))["origin"]
    assert origin["run"] == "run/live/first"
    assert origin["predictor_sha256"] == detail["predictor_sha256"]
    assert "released by" in call("lineage", "live@1").stdout
    assert call("lineage", "live", "--at", "2020-01-01").exit_code == Exit.NOT_FOUND


def test_the_same_again_is_foretold_and_reused(call: Call, project: Callable[..., Path], worker: int) -> None:
    """The second run evaluates against the new champion, the third finds even that."""
    project("live")
    assert call("run", "live", "-p", "rounds=12", "--key", "second").exit_code == 0
    told = document(call("run", "live", "-p", "rounds=12", "--dry-run", "--json"))["steps"]
    assert {step["step"]: step["computed"] for step in told} == {"prepare": False, "train": False, "evaluate": False, "promote": True}
    result = call("run", "live", "-p", "rounds=12", "--key", "third", "--json")
    assert result.exit_code == 0
    run = document(result)
    assert run["released"] is True
    assert [step["reused"] for step in run["steps"]] == [True, True, True, False]
    assert "prepare: reused" in result.stderr
    changed = call("run", "live", "-p", "rounds=13", "--dry-run")
    assert "parameters changed since run/live/third" in changed.stdout
    assert "nothing was started" in changed.stderr
    forced = document(call("run", "live", "-p", "rounds=12", "--from", "evaluate", "--dry-run", "--json"))["steps"]
    assert [step["computed"] for step in forced] == [False, False, True, True]


def test_a_data_set_is_made_again_from_its_manifest(call: Call, project: Callable[..., Path], worker: int) -> None:
    file = project("again", uri="again.csv")
    source = file.with_name("again.csv")
    header, *rows = file.with_name("rows.csv").read_text().splitlines(keepends=True)
    source.write_text("".join([header, *reversed(rows)]))  # else another test's data set is reused
    assert call("run", file).exit_code == 0
    assert [each["newest"] for each in document(call("datasets", "list", "--json")) if each["dataset"] == "again"] == [1]
    assert re.search(r"^again +1 +\d+ ", call("datasets").stdout, re.MULTILINE)
    shown = document(call("datasets", "show", "again/1", "--json"))
    assert shown["train_rows"] + shown["test_rows"] == 400
    assert shown["manifest"]["sha256"] in call("datasets", "show", "again/1").stdout
    assert [each["number"] for each in document(call("datasets", "show", "again", "--json"))] == [1]

    objects = ObjectStore(Settings().s3)
    lost = ArtifactRef.from_json(objects.get_json(ArtifactRef.from_json(shown["manifest"]))["splits"]["train"]["files"][0])
    objects.delete([urlsplit(lost.uri).path.lstrip("/")])
    same = call("datasets", "rebuild", "again/1", "--json")
    assert same.exit_code == 0, same.stderr
    assert document(same) == {
        "dataset": "again",
        "version": 1,
        "recorded": shown["manifest"],
        "same": True,
        "manifest": shown["manifest"],
        "differences": [],
    }
    assert objects.exists(lost), "and lies where it lay"
    source.write_text(source.read_text().replace(",no\n", ",yes\n", 1))
    other = call("datasets", "rebuild", "again")
    assert other.exit_code == Exit.FAILED
    assert re.search(r"again/1 came out different in: .*source.*splits", other.stderr)
    assert shown["manifest"]["uri"] in other.stderr
    source.unlink()
    gone = call("datasets", "rebuild", "again", "--json")
    assert gone.exit_code == Exit.FAILED
    assert document(gone)["error"]["type"] == "SourceMissing"
    assert "live_steps" not in sys.modules, "the owner's code is imported in jobs only"

    assert document(call("datasets", "show", "nothing", "--json"))["exit_code"] == Exit.NOT_FOUND
    assert "name one from 1 to 1" in call("datasets", "rebuild", "again/2").stderr
    assert call("datasets", "show", "again/first").exit_code == Exit.USAGE


def test_a_model_that_is_refused(call: Call, project: Callable[..., Path], worker: int) -> None:
    result = call("run", project("poor", least=1.1))
    assert result.exit_code == Exit.FAILED
    assert "poor version 1 is not released: gates failed: roc_auc" in result.stdout


def test_a_run_that_fails_names_the_remedy(call: Call, project: Callable[..., Path], worker: int) -> None:
    result = call("run", project("gone", uri="gone.csv"), "--key", "k")
    assert result.exit_code == Exit.FAILED
    assert "SourceMissing: data.source.uri: file://" in result.stdout
    assert "docs/errors.md#sourcemissing" in result.stdout
    shown = call("show", "gone")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "  remedy: " in shown.stdout
    assert "SourceMissing" in call("runs", "gone").stdout


def test_people_decide(call: Call, project: Callable[..., Path], worker: int) -> None:
    assert call("run", project("asked", required=1, approvers="bob, eve"), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: "perdure approve" in call("show", "asked/k").stdout)
    assert "waiting for people: 0 of 1 approvals" in call("watch", "asked", "--timeout", "0").stdout
    assert call("approve", "asked").exit_code == Exit.CONFLICT, "ada may not"
    assert call("approve", "asked", "--actor", "bob", "--evidence", "ffff").exit_code == Exit.CONFLICT
    evidence = document(call("show", "asked", "--json"))["promotion"]["evidence_sha256"]
    result = call("approve", "asked", "--actor", "bob", "--evidence", evidence[:12], "-m", "good", "--json")
    assert result.exit_code == 0, result.stderr
    assert document(result)["state"]["approvals"] == 1
    assert call("watch", "asked").exit_code == 0
    assert call("approve", "asked", "--actor", "bob").exit_code == Exit.CONFLICT, "it is decided"
    assert "approved by bob" in call("show", "asked").stdout


def test_pause_resume_cancel(call: Call, project: Callable[..., Path], worker: int) -> None:
    assert call("run", project("long", rounds=1_000_000), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: "checkpoint at" in call("show", "long/k").stdout)
    paused = call("pause", "long", "-m", "the machine is needed")
    assert paused.exit_code == 0, paused.stderr
    assert state(call, "long/k") == "paused"
    assert "the machine is needed" in call("show", "long").stdout
    assert document(call("resume", "long", "--json"))["progress"]["paused"] is False
    assert state(call, "long/k") == "running"
    assert call("cancel", "long").exit_code == 0
    ended = call("watch", "long")
    assert ended.exit_code == Exit.FAILED
    assert "run/long/k cancelled" in ended.stdout
    late = call("pause", "long/k")
    assert late.exit_code == Exit.CONFLICT
    assert "has ended as cancelled" in late.stderr


def test_a_worker_that_does_not_answer(call: Call, project: Callable[..., Path], worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.cli.commands.ANSWER_SECONDS", 1.0)
    assert call("run", project("mute", rounds=1_000_000), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: call("show", "mute/k").exit_code == 0)
    os.kill(worker, signal.SIGSTOP)
    try:
        result = call("cancel", "mute/k")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert result.exit_code == Exit.UNREACHABLE
    assert "the command may still arrive" in result.stderr
    assert call("watch", "mute/k").exit_code == Exit.FAILED, "and so it did"


def test_watching_outlives_postgres_and_temporal(call: Call, project: Callable[..., Path], worker: int, stack: Stack) -> None:
    assert call("run", project("killed", rounds=1_000_000), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: "checkpoint at" in call("show", "killed/k").stdout)
    with watching("killed/k") as process:
        assert process.stdout is not None
        said: list[str] = []
        while not any("train: " in line for line in said):
            said.append(process.stdout.readline())
        for service in local.status(stack.home):
            if service.name in ("postgres", "temporal"):
                os.kill(int(service.pid or 0), signal.SIGKILL)
        while not any("Postgres answers again" in line for line in said):
            said.append(process.stdout.readline())
        assert any("Postgres does not answer" in line for line in said)
        assert process.poll() is None
        eventually(lambda: all(service.state == "ready" for service in local.status(stack.home)))
        eventually(lambda: call("cancel", "killed/k").exit_code == 0)
        rest = process.stdout.read()
        assert process.wait(60) == Exit.FAILED
    assert "run/killed/k cancelled" in rest


def test_interrupting_the_watching_leaves_the_run(call: Call, project: Callable[..., Path], worker: int) -> None:
    assert call("run", project("alone", rounds=1_000_000), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: call("show", "alone/k").exit_code == 0)
    with watching("alone/k") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == Exit.INTERRUPTED
    assert state(call, "alone/k") == "running"
    assert call("cancel", "alone").exit_code == 0
    assert call("watch", "alone/k").exit_code == Exit.FAILED


def test_terminated_by_the_stock_tools(call: Call, project: Callable[..., Path], worker: int, stack: Stack) -> None:
    """No row says so until the reconciler has looked: watching tells what Temporal knows."""
    import asyncio

    from perdure.temporal import connect

    assert call("run", project("ended", rounds=1_000_000), "--key", "k", "--detach").exit_code == 0
    eventually(lambda: call("show", "ended/k").exit_code == 0)

    async def terminate() -> None:
        client = await connect(stack.settings)
        await client.get_workflow_handle("run/ended/k").terminate("by hand")

    asyncio.run(terminate())
    result = call("watch", "ended/k", "--timeout", "5")
    assert result.exit_code == Exit.UNFINISHED
    assert "Temporal says that the workflow is terminated" in result.stdout


def test_database_commands(call: Call, environment: dict[str, str]) -> None:
    checked = document(call("db", "check", "--json"))
    result = call("db", "upgrade", "--json")
    assert document(result)["before"] == document(result)["after"] == checked["revision"]
    assert "up to date" in call("db", "check").stderr


def test_an_empty_database_is_named(call: Call, environment: dict[str, str], stack: Stack) -> None:
    empty = stack.environment(stack.isolated())
    result = call("runs", env=empty)
    assert result.exit_code == Exit.MISFIT
    assert "perdure db upgrade" in result.stderr


def test_wrong_credentials_are_named(call: Call, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("wrong")
    result = call("runs", env={"PERDURE_POSTGRES__PASSWORD": f"file:{tmp_path / 'secret'}"})
    assert result.exit_code == Exit.DENIED
    assert "wrong" not in result.stderr
    (tmp_path / "p.yaml").write_text("name: m\ndata: {source: {uri: x.csv, format: csv}, target: y, transform: 'steps:apply'}\n")
    (tmp_path / "steps.py").write_text("def apply(frame): ...\n")
    denied = call("apply", tmp_path / "p.yaml", env={"PERDURE_S3__SECRET_KEY": f"file:{tmp_path / 'secret'}"})
    assert denied.exit_code == Exit.DENIED
    assert json.loads(call("apply", tmp_path / "p.yaml", "--json").stdout)["number"] == 1
