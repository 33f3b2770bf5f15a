"""Bad input from end to end: one typed error with its remedy, the same in the run's row and in Temporal, and nothing half-committed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from sqlalchemy import select
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import ApplicationError
from typer.testing import CliRunner

from perdure import packaging
from perdure.adapters.s3 import ObjectStore
from perdure.adapters.temporal import TemporalExecutions
from perdure.cli.main import app
from perdure.config import Settings
from perdure.errors import NotFound
from perdure.local import ports
from perdure.messages.common import ArtifactRef
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.queries import show_run
from perdure.metadata.repository import ProjectionRows, RunRows, StepRows
from perdure.metadata.upgrade import upgrade
from perdure.reconciler import Reconciler
from perdure.temporal import connect
from tests.chaos.cells import World
from tests.e2e.running import GOOD_ROWS, Ended, execute, project, run, run_applied
from tests.metadata.proxy import Proxy
from tests.servers import Stack, beside


@dataclass(frozen=True)
class Temporal:
    """What Temporal's pages show of a run and its steps: the failure of each workflow, and how often each activity was tried."""

    failures: dict[str, Any] = field(default_factory=dict)
    attempts: list[int] = field(default_factory=list)


async def history(settings: Settings, workflow_id: str) -> Temporal:
    client = await connect(settings)
    seen = Temporal()
    waiting = [workflow_id]
    while waiting:
        id = waiting.pop()
        async for event in client.get_workflow_handle(id).fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                seen.attempts.append(event.activity_task_started_event_attributes.attempt)
            elif event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                waiting.append(event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id)
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                seen.failures[id] = event.workflow_execution_failed_event_attributes.failure
    return seen


def assert_refused(
    settings: Settings,
    ended: Ended,
    type_: str,
    *mentions: str,
    datasets: int = 0,
    variables: Mapping[str, str] | None = None,
) -> None:
    """One typed error with cause and remedy, told alike by Temporal, the row and `perdure show`; nothing tried again, nothing left half."""
    detail, failure = ended
    temporal = asyncio.run(history(settings, detail.run.workflow_id))
    assert failure is not None
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert all(mention in failure.message for mention in mentions), failure.message
    assert "\n  remedy: " in failure.message
    shown = temporal.failures[detail.run.workflow_id]
    assert shown.message == failure.message, "what Temporal's pages show"
    assert shown.application_failure_info.type == type_
    assert set(temporal.attempts) == {1}, "an activity was tried again"

    error = detail.run.error
    assert detail.run.state == "failed"
    assert error is not None
    assert error["type"] == type_
    assert error["remedy"]
    told = CliRunner().invoke(app, ["show", detail.run.workflow_id], env=variables)
    assert told.exit_code == 0
    assert f"{type_}: " in told.stdout
    assert f"remedy: {error['remedy']}" in told.stdout
    assert all(mention in told.stdout for mention in mentions), told.stdout

    assert {step.state for step in detail.steps} <= {"succeeded", "failed"}
    assert committed(settings, detail.run.id) == {"datasets": datasets, "versions": 0, "releases": 0}


def committed(settings: Settings, run: uuid.UUID) -> dict[str, int]:
    database = Database(settings.postgres)
    with database.transaction() as session:
        made = select(t.DatasetVersion.id).join(t.StepRun, t.StepRun.id == t.DatasetVersion.step_run_id).where(t.StepRun.run_id == run)
        versions = select(t.ModelVersion.id).where(t.ModelVersion.run_id == run)
        releases = select(t.Release.id).where(t.Release.model_version_id.in_(versions))
        queries = {"datasets": made, "versions": versions, "releases": releases}
        counted = {name: len(session.scalars(query).all()) for name, query in queries.items()}
    database.close()
    return counted


def manifest(settings: Settings, run: uuid.UUID) -> ArtifactRef:
    database = Database(settings.postgres)
    with database.transaction() as session:
        made = (
            select(t.DatasetVersion.manifest_id)
            .join(t.StepRun, t.StepRun.id == t.DatasetVersion.step_run_id)
            .where(t.StepRun.run_id == run)
        )
        row = session.scalars(select(t.Artifact).where(t.Artifact.id.in_(made))).one()
        found = ArtifactRef(uri=row.uri, sha256=row.sha256)
    database.close()
    return found


CASES: dict[str, tuple[dict[str, str], str, str]] = {
    "one-class": ({"rows": "kind\tsize\n" + "cat\t1\n" * 50}, "DataRejected", "cat"),
    "no-labels": ({"rows": "kind\tsize\n" + "\t1\n" * 30 + "cat\t2\ndog\t1\n" * 10}, "DataRejected", "kind"),
    "wrong-delimiter": ({"rows": GOOD_ROWS.replace("\t", ",")}, "SchemaBroken", "kind"),
    "import-error": (
        {"code": "import polars\nimport no_such_package\ndef apply(frame): return frame"},
        "UserCodeImport",
        "no_such_package",
    ),
    "exception": ({"code": "def apply(frame):\n    raise ValueError('not today')"}, "UserCodeError", "not today"),
    "crash": ({"code": "import os\ndef apply(frame):\n    os._exit(7)"}, "JobCrashed", "7"),
    "killed": (
        {
            "code": "import os, signal\ndef apply(frame):\n    os.kill(os.getpid(), signal.SIGKILL)"
        },  # as the kernel does where memory is out
        "JobCrashed",
        "out of memory, if nobody killed it",
    ),
    "disk-full": (  # a real write that the kernel refuses, for want of a full disk that anybody may make
        {"code": "def apply(frame):\n    with open('/dev/full', 'w') as file:\n        file.write('x')"},
        "StorageFull",
        "no room on the local disk",
    ),
    "out-of-memory": ({"code": "def apply(frame):\n    raise MemoryError"}, "JobCrashed", "memory"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_data_and_code(world: World, tmp_path: Path, case: str) -> None:
    changes, type_, mention = CASES[case]
    file = project(tmp_path, f"bad-{case}", **changes)
    assert_refused(world.settings, run(world.settings, file, f"bad-{case}"), type_, mention)


def test_a_file_that_is_gone(world: World, tmp_path: Path) -> None:
    packaging.apply(project(tmp_path, "gone"), world.settings, actor="test")
    (tmp_path / "rows.tsv").unlink()
    assert_refused(world.settings, run_applied(world.settings, "gone"), "SourceMissing", "rows.tsv")


def test_gpus_that_nobody_has(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "gpus", train=", scaling: {gpus_per_worker: 1}", engine="ray", patience="2m")
    assert_refused(world.settings, run(world.settings, file, "gpus"), "ResourcesUnavailable", "gpus_per_worker", datasets=1)


def test_good_input_with_the_local_engine_is_released_and_then_cached_as_long_as_it_is_whole(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "good")
    detail, failure = run(world.settings, file, "good")
    assert failure is None
    assert detail.release is not None
    again, failure = run(world.settings, file, "good")
    assert failure is None
    assert [step.state for step in again.steps] == ["succeeded"] * 4
    assert all("hit" in step.reason for step in again.steps if step.step in ("prepare", "train"))
    assert again.promotion is not None
    assert "serves already" in again.promotion.reason

    objects = ObjectStore(world.settings.s3)
    lost = ArtifactRef.from_json(objects.get_json(manifest(world.settings, detail.run.id))["features"]["files"][0])
    objects.delete([lost.uri.removeprefix(objects.uri(""))])
    mended, failure = run(world.settings, file, "good")
    assert failure is None
    assert {step.step: step.reason.partition(":")[0] for step in mended.steps[:2]} == {"prepare": "computed again", "train": "hit"}
    assert objects.exists(lost), "a data set of which a file is gone is no hit"


def test_a_workflow_id_is_used_once(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "once")
    detail, _ = run(world.settings, file, "once")

    failure = asyncio.run(execute(world.settings, "once", detail.run.workflow_id))
    assert failure is not None
    assert failure.type == "Conflict"
    assert "new workflow id" in failure.message


# --- what surrounds the run ----------------------------------------------------------------------------------------------
# Each has a worker of its own, on servers that have no other, as its surroundings are spoiled.


@pytest.fixture(scope="module")
def bare(stack: Stack) -> Settings:
    """Servers without a worker: the database and bucket of this module."""
    settings = stack.isolated()
    upgrade(settings)
    return settings


@contextmanager
def worker(variables: Mapping[str, str], log: Path, *, inside: list[str] | None = None) -> Iterator[None]:
    """A worker process that reads *variables*, started by the command *inside*."""
    variables = {**variables, "PERDURE_WORKER__SHUTDOWN_SECONDS": "1"}
    with log.open("wb") as out:
        command = [*(inside or []), sys.executable, "-m", "perdure.workers"]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=out, stderr=out)
        try:
            eventually(lambda: "worker ready" in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_wrong_credentials_for_s3(bare: Settings, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("not-the-secret-key")
    variables = stack.environment(bare)
    with worker(variables | {"PERDURE_S3__SECRET_KEY": f"file:{tmp_path / 'wrong'}"}, tmp_path / "log"):
        ended = run(bare, project(tmp_path, "denied"), "denied")
    assert_refused(bare, ended, "AccessDenied", "refused the credentials", "s3.secret_key", variables=variables)
    assert "not-the-secret-key" not in (tmp_path / "log").read_text()


@pytest.mark.long
def test_wrong_credentials_on_the_cluster(bare: Settings, stack: Stack, tmp_path: Path, new_home: Callable[[], Path]) -> None:
    """The worker's are right, but those of the node that trains are not: so the job cannot even say on S3 what is wrong."""
    (tmp_path / "wrong").write_text("not-the-secret-key")
    spoiled = stack.settings.s3.model_copy(update={"secret_key": f"file:{tmp_path / 'wrong'}"})
    node = Stack(stack.home, stack.settings.model_copy(update={"s3": spoiled}))
    with beside(node, new_home(), "ray") as cluster:
        variables = stack.environment(bare.model_copy(update={"ray": cluster.settings.ray}))
        with worker(variables, tmp_path / "log"):
            ended = run(bare, project(tmp_path, "node", engine="ray"), "node")
    assert_refused(bare, ended, "AccessDenied", "refused the credentials", "s3.secret_key", datasets=1, variables=variables)


@pytest.mark.long
def test_a_cluster_that_stays_away(bare: Settings, stack: Stack, tmp_path: Path) -> None:
    variables = stack.environment(bare)
    nobody = f"http://127.0.0.1:{ports.spare()}"
    began = time.monotonic()
    with worker(variables | {"PERDURE_RAY__URL": nobody}, tmp_path / "log"):
        ended = run(bare, project(tmp_path, "away", engine="ray", patience="3s"), "away")
    assert time.monotonic() - began < 60
    mentions = ("Ray did not answer for", nobody, "perdure doctor")
    assert_refused(bare, ended, "PatienceExhausted", *mentions, datasets=1, variables=variables)  # the data set is whole


CODE_THAT_TAKES_LONG = """
import time, polars as pl
def apply(frame):
    time.sleep(60)
    return frame.select(pl.col("size").cast(pl.Float32))
"""


def test_an_object_store_that_stays_away(bare: Settings, stack: Stack, tmp_path: Path) -> None:
    variables = stack.environment(bare)
    nobody = f"http://127.0.0.1:{ports.spare()}"
    with worker(variables | {"PERDURE_S3__ENDPOINT": nobody}, tmp_path / "log"):
        ended = run(bare, project(tmp_path, "no-s3", patience="3s"), "no-s3")
    assert_refused(bare, ended, "PatienceExhausted", "S3 did not answer for", nobody, "perdure doctor", variables=variables)


def test_a_database_that_stays_away(bare: Settings, stack: Stack, tmp_path: Path) -> None:
    """It goes away while a job runs, for all that the worker can see: Temporal tells the end, and the reconciler tells the rows."""
    server = urlparse(bare.postgres.url)
    proxy = Proxy(str(server.hostname), int(server.port or 5432))
    through = bare.postgres.url.replace(f":{server.port}/", f":{proxy.port}/")
    packaging.apply(project(tmp_path, "no-rows", code=CODE_THAT_TAKES_LONG, patience="3s"), bare, actor="test")
    workflow_id = f"run/no-rows/{uuid.uuid4().hex[:8]}"
    database = Database(bare.postgres)

    def runs() -> bool:
        with suppress(NotFound):
            return any(step.detail.get("phase") for step in show_run(database, workflow_id).steps)
        return False

    async def disturbed() -> ApplicationError | None:
        ending = asyncio.create_task(execute(bare, "no-rows", workflow_id))
        await asyncio.to_thread(eventually, runs)
        proxy.close()
        return await ending

    with worker(stack.environment(bare) | {"PERDURE_POSTGRES__URL": through}, tmp_path / "log"):
        failure = asyncio.run(disturbed())
    assert failure is not None
    assert failure.type == "PatienceExhausted"
    assert "Postgres did not answer for" in failure.message
    assert show_run(database, workflow_id).run.state == "running", "nobody could tell its rows"
    with TemporalExecutions.open(bare) as executions:
        passes = Reconciler(RunRows(database), StepRows(database), ProjectionRows(database), executions, None, [])
        passes.run_once()
        passes.run_once()
    detail = show_run(database, workflow_id)
    database.close()
    assert_refused(bare, (detail, failure), "PatienceExhausted", "Postgres did not answer for", variables=stack.environment(bare))


@pytest.mark.parametrize("limit", ["size=256k", "nr_inodes=1"], ids=["while a job runs", "before it starts"])
def test_a_full_disk(bare: Settings, stack: Stack, tmp_path: Path, limit: str) -> None:
    """The worker's scratch folder is a file system of its own with next to no room, which no other process sees."""
    (home := tmp_path / "home").mkdir()
    (scratch := home / "scratch").mkdir()
    script = f'mount -t tmpfs -o {limit} none "{scratch}" && exec "$@"'
    inside = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c", script, "sh"]
    try:
        allowed = subprocess.run([*inside, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small file system needs `unshare`")
    if allowed.returncode != 0:
        pytest.skip(f"this machine does not allow a file system of one's own: {allowed.stderr.strip()}")
    dice = random.Random(7)
    rows = "kind\tsize\n" + "".join(f"{'cat' if i % 2 else 'dog'}\t{dice.getrandbits(48)}\n" for i in range(150_000))
    variables = stack.environment(bare)
    with worker(variables | {"PERDURE_HOME": str(home)}, tmp_path / "log", inside=inside):
        ended = run(bare, project(tmp_path, "full", rows=rows), "full")
    assert_refused(bare, ended, "StorageFull", "no room on the local disk", "free disk space", variables=variables)
