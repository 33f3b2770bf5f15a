"""The relay: every poke is sent at least once, whatever dies when; a workflow is poked once a second at most."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from perdure.adapters.temporal import TemporalExecutions
from perdure.config import Settings
from perdure.errors import StoreUnavailable, TemporalUnavailable
from perdure.messages.retraining import ControllerRequest
from perdure.metadata.database import Database
from perdure.metadata.repository import OutboxRows, SweepRows
from perdure.metadata.repository.answers import poke
from perdure.metadata.upgrade import upgrade
from perdure.relay import REST, Relay
from perdure.temporal import connect
from tests.servers import Stack


class Temporal:
    """Remembers who was poked."""

    def __init__(self) -> None:
        self.poked: list[str] = []
        self.refuses: dict[str, str] = {}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def poke(self, workflow_ids: list[str]) -> dict[str, str]:
        self.before()
        self.poked += sorted(workflow_ids)
        self.after()
        return {name: why for name, why in self.refuses.items() if name in workflow_ids}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database.open(settings) as opened:
        opened.tenant = uuid4().hex[:12]
        yield opened


def poked(database: Database, *targets: str) -> None:
    with database.transaction() as session:
        for target in targets:
            poke(session, database.tenant, target)


def unsent(database: Database) -> int:
    return OutboxRows(database).unsent("poke").rows


def test_each_workflow_once_and_then_it_rests(database: Database) -> None:
    temporal, clock = Temporal(), Clock()
    relay = Relay(OutboxRows(database), temporal, SweepRows(database), clock)
    poked(database, "a", "b", "a", "a")
    done = relay.run_once()
    assert (temporal.poked, done.poked, done.rows, unsent(database)) == (["a", "b"], 2, 4, 0)
    poked(database, "a", "c")
    done = relay.run_once()
    assert (temporal.poked[2:], unsent(database)) == (["c"], 1)
    assert 0 < done.pause <= REST
    clock.now += REST
    relay.run_once()
    assert (temporal.poked[3:], unsent(database)) == (["a"], 0)


def test_killed_before_or_after_the_signal(database: Database) -> None:
    """Nothing is marked unless the signal was sent; one that was sent twice is only a second look."""
    temporal = Temporal()

    def die() -> None:
        raise KeyboardInterrupt

    poked(database, "a")
    for point in ("before", "after"):
        setattr(temporal, point, die)
        with pytest.raises(KeyboardInterrupt):
            Relay(OutboxRows(database), temporal, SweepRows(database)).run_once()
        setattr(temporal, point, lambda: None)
        assert unsent(database) == 1
    Relay(OutboxRows(database), temporal, SweepRows(database)).run_once()
    assert (temporal.poked, unsent(database)) == (["a", "a"], 0)


def test_two_relays_share_the_work(database: Database) -> None:
    """What one of them is sending, the other leaves alone; what comes meanwhile is the other's."""
    one, other, sending, go_on = Temporal(), Temporal(), threading.Event(), threading.Event()

    def send_slowly() -> None:
        sending.set()
        assert go_on.wait(10)

    one.before = send_slowly
    poked(database, "a")
    busy = threading.Thread(target=Relay(OutboxRows(database), one, SweepRows(database)).run_once)
    busy.start()
    assert sending.wait(10)
    poked(database, "b")
    Relay(OutboxRows(database), other, SweepRows(database)).run_once()
    go_on.set()
    busy.join(10)
    assert (one.poked, other.poked, unsent(database)) == (["a"], ["b"], 0)


def test_a_row_that_is_committed_late_is_not_marked_with_its_neighbors(database: Database) -> None:
    temporal, clock = Temporal(), Clock()
    relay = Relay(OutboxRows(database), temporal, SweepRows(database), clock)
    with database.transaction() as slow:
        poke(slow, database.tenant, "slow")  # its id is the lower one
        poked(database, "quick")
        relay.run_once()
        assert temporal.poked == ["quick"]
    clock.now += REST
    relay.run_once()
    assert (temporal.poked, unsent(database)) == (["quick", "slow"], 0)


def test_while_a_server_is_away_rows_stay(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    temporal = Temporal()
    outbox = OutboxRows(database)
    relay = Relay(outbox, temporal, SweepRows(database))

    def away() -> None:
        raise TemporalUnavailable("no answer")

    temporal.before = away
    poked(database, "a")
    pauses = [relay.run_once().pause for _ in range(8)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert pauses[-1] == 15.0
    with monkeypatch.context() as patch:

        def lost(*_: object) -> None:
            raise StoreUnavailable("no answer")

        patch.setattr(outbox, "deliver", lost)
        assert relay.run_once().away == "Postgres"
    temporal.before = lambda: None
    assert (relay.run_once().poked, unsent(database)) == (1, 0)


def test_one_that_cannot_be_told_is_tried_again_later_and_holds_up_nobody(database: Database) -> None:
    temporal, clock = Temporal(), Clock()
    temporal.refuses = {"bad": "not allowed"}
    relay = Relay(OutboxRows(database), temporal, SweepRows(database), clock)
    poked(database, "bad", "good")
    done = relay.run_once()
    assert (done.poked, done.failed, unsent(database)) == (1, 1, 1)
    clock.now += REST
    assert relay.run_once().failed == 0  # not due yet
    with database.transaction() as session:
        row = session.execute(text("select attempts, error from outbox where target = 'bad' and sent_at is null")).one()
        assert tuple(row) == (1, "not allowed")
        session.execute(text("update outbox set due_at = now() where target = 'bad'"))
    temporal.refuses = {}
    assert (relay.run_once().poked, unsent(database)) == (1, 0)


def test_what_is_old_and_done_is_deleted_in_batches(database: Database) -> None:
    """Unsent messages and deliveries that could not be used stay, however old they are."""
    own = {"tenant": database.tenant, "hook": database.tenant}
    old = {
        "outbox": "(tenant, topic, target, payload, sent_at) select :tenant, 'poke', 'w' || n, '{}', now() - interval '4 days'",
        "idempotent_request": "(tenant, id, principal, key, route, request_sha256, status, response, created_at)"
        " select :tenant, gen_random_uuid(), 'a', n, '/', '', 200, '{}', now() - interval '8 days'",
        "delivery": "(tenant, hook_id, key, body_sha256, headers, state, received_at, processed_at)"
        " select :tenant, :hook, n, '', '{}', case n when 1 then 'quarantined' else 'processed' end, now() - interval '31 days',"
        " case n when 1 then null else now() end",
    }
    with database.transaction() as session:
        session.execute(
            text("insert into hook (tenant, id, provider, secrets, created_by) values (:tenant, :hook, 'standard', '[]', 'ann')"), own
        )
        for table, rows in old.items():
            session.execute(text(f"insert into {table} {rows} from generate_series(1, 6) n"), own)
        waiting = "insert into outbox (tenant, topic, target, payload, created_at) values (:tenant, 'notify', 'ann', '{}', '2026-01-01')"
        session.execute(text(waiting), own)
    poked(database, "new")
    assert [SweepRows(database).sweep(limit=4) for _ in range(3)] == [12, 5, 0]
    with database.transaction() as session:
        left = {name: session.scalar(text(f"select count(*) from {name} where tenant = :tenant"), own) for name in old}
    assert left == {"outbox": 2, "idempotent_request": 0, "delivery": 1}


@workflow.defn(name="Poked", sandboxed=False)
class Poked:
    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def poke(self) -> None:
        self.count += 1

    @workflow.query
    def pokes(self) -> int:
        return self.count


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    client = await connect(stack.settings)
    async with Worker(client, task_queue="poked", workflows=[Poked]):
        yield client


async def test_processes_that_are_killed_and_doubled_poke_real_workflows(
    stack: Stack, settings: Settings, database: Database, client: Client
) -> None:
    """Two relays, one of them killed again and again; also a workflow that is gone is told, and held up by nobody."""
    database.tenant = "default"
    environment = {**os.environ, **stack.environment(settings)}
    command = [sys.executable, "-m", "perdure.workers.relay"]
    relays = [subprocess.Popen(command, env=environment) for _ in range(2)]
    try:
        workflows = [await client.start_workflow("Poked", id=f"poked/{uuid4()}", task_queue="poked") for _ in range(3)]
        for round in range(3):
            poked(database, f"gone/{uuid4()}", *(each.id for each in workflows))
            began = time.monotonic()
            while await asyncio.to_thread(unsent, database):
                await asyncio.sleep(0.02)
                assert time.monotonic() - began < 20
            relays[round % 2].send_signal(signal.SIGKILL)
            relays[round % 2].wait()
            relays[round % 2] = subprocess.Popen(command, env=environment)
        counts = [await each.query("pokes") for each in workflows]
        assert all(3 <= count <= 6 for count in counts), counts
        for each in workflows:
            await each.terminate()
    finally:
        for relay in relays:
            relay.send_signal(signal.SIGTERM)
        ends = [relay.wait(15) for relay in relays]
    assert set(ends) <= {0, -signal.SIGTERM}  # the younger one may still be starting


@workflow.defn(name="RetrainingController", sandboxed=False)
class Controller(Poked):
    @workflow.run
    async def run(self, request: ControllerRequest) -> None:
        await workflow.wait_condition(lambda: False)


async def test_a_controller_begins_with_its_first_poke(stack: Stack) -> None:
    """Also where it was ended; who runs goes on."""
    client, id = await connect(stack.settings), f"retrain/m{uuid4().hex[:8]}"
    handle = client.get_workflow_handle(id)
    async with Worker(client, task_queue="perdure", workflows=[Controller]):
        with TemporalExecutions.open(stack.settings) as executions:
            for pokes in (1, 2):
                assert await asyncio.to_thread(executions.poke, [id]) == {}
                assert await handle.query("pokes") == pokes
            first = (await handle.describe()).run_id
            await handle.terminate()
            assert await asyncio.to_thread(executions.poke, [id]) == {}
            assert (await handle.query("pokes"), (await handle.describe()).run_id == first) == (1, False)
            await handle.terminate()


def test_an_unknown_namespace_marks_nothing(stack: Stack) -> None:
    elsewhere = stack.settings.temporal.model_copy(update={"namespace": "nowhere"})
    with (
        TemporalExecutions.open(stack.settings.model_copy(update={"temporal": elsewhere})) as executions,
        pytest.raises(TemporalUnavailable),
    ):
        executions.poke(["campaign/x"])
    with TemporalExecutions.open(stack.settings) as executions:
        assert executions.poke([f"campaign/{datetime.now(UTC).timestamp()}"]) == {}
