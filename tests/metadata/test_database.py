from __future__ import annotations

import threading

import pytest
from sqlalchemy import insert, text

from perdure.config import Settings
from perdure.errors import AccessDenied, PerdureError, SchemaTooOld, StorageFull, StoreUnavailable
from perdure.metadata import database as module
from perdure.metadata import tables as t
from perdure.metadata.database import Database, StatementRefused
from perdure.metadata.jsonb import dumps
from tests.metadata.world import World
from tests.servers import Stack


def raises(state: str) -> str:
    """A statement that the server answers with this SQLSTATE, as it would if a disk were full."""
    return f"do $$ begin raise exception 'as told' using errcode = '{state}'; end $$"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", StorageFull),
        ("42501", AccessDenied),
        ("42P01", SchemaTooOld),
        ("57P01", StoreUnavailable),  # the server shuts down
        ("53300", StoreUnavailable),  # too many connections
        ("40P01", StoreUnavailable),  # a deadlock was resolved at our cost
        ("55P03", StoreUnavailable),  # a lock was not to be had
        ("25006", StoreUnavailable),  # a standby, after a failover
        ("25P03", StoreUnavailable),  # this session slept inside a transaction
    ],
)
def test_what_the_server_says_becomes_a_typed_error(database: Database, state: str, kind: type[PerdureError]) -> None:
    with pytest.raises(kind, match="as told"), database.transaction() as session:
        session.execute(text(raises(state)))


def test_a_mistake_of_ours_stays_what_it_is(database: Database) -> None:
    with pytest.raises(StatementRefused, match="syntax error"), database.transaction() as session:
        session.execute(text("selct 1"))


def test_a_lost_session_costs_one_transaction(database: Database) -> None:
    with pytest.raises(StoreUnavailable), database.transaction() as session:
        session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    with database.transaction() as session:
        assert session.scalar(text("select 1")) == 1


def test_a_server_that_restarted_costs_nothing(world: World, migrated: Settings) -> None:
    """Connections that died while they lay in the pool are noticed before they are used."""
    run = world.run()
    with world.database.transaction() as session:
        mine = session.scalar(text("select pg_backend_pid()"))
    with Database.open(migrated) as other, other.transaction() as session:
        assert session.scalar(text(f"select pg_terminate_backend({mine}, 5000)"))
    assert world.runs.run(run.id) == run


def test_a_worker_that_sleeps_in_a_transaction_loses_it(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process must not hold locks for ever; when it goes on, it commits nothing."""
    monkeypatch.setattr(module, "SESSION", "-c idle_in_transaction_session_timeout=200ms")

    def sleep_inside(database: Database) -> None:
        with database.transaction() as session:
            session.execute(text("create table asleep (id int)"))
            threading.Event().wait(0.5)

    with Database.open(migrated) as database, pytest.raises(StoreUnavailable):
        sleep_inside(database)
    with Database.open(migrated) as database, database.transaction() as session:
        assert session.scalar(text("select to_regclass('asleep')")) is None


def test_an_exhausted_pool_is_told(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_SECONDS", 0.1)
    small = migrated.model_copy(update={"postgres": migrated.postgres.model_copy(update={"pool": 1})})
    with Database.open(small) as database, database.transaction() as session:
        session.execute(text("select 1"))
        with pytest.raises(StoreUnavailable, match="no connection became free"), database.transaction() as other:
            other.execute(text("select 1"))


def test_nothing_that_rows_hold_is_in_an_error(database: Database) -> None:
    half = insert(t.Audit).values(actor="planted-secret", action="x")
    with pytest.raises(StatementRefused, match="23502") as caught, database.transaction() as session:
        session.execute(half)
    assert "planted-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_sessions_are_bounded_and_speak_utc(database: Database) -> None:
    with database.transaction() as session:
        shown = {name: session.scalar(text(f"show {name}")) for name in ("statement_timeout", "lock_timeout", "timezone")}
    assert shown == {"statement_timeout": "1min", "lock_timeout": "30s", "timezone": "UTC"}


def test_options_of_the_address_go_first(stack: Stack) -> None:
    postgres = stack.settings.postgres
    shorter = postgres.model_copy(update={"url": f"{postgres.url}?options=-c%20statement_timeout%3D5s"})
    with Database.open(stack.settings.model_copy(update={"postgres": shorter})) as database, database.transaction() as session:
        assert session.scalar(text("show statement_timeout")) == "5s"


def test_tenants_do_not_see_each_other(world: World, migrated: Settings) -> None:
    run = world.run()
    with Database.open(migrated.model_copy(update={"tenant": "somebody-else"})) as other:
        with pytest.raises(PerdureError, match="there is no run"):
            World(other).runs.run(run.id)
        assert World(other).run().id != run.id


def test_json_holds_what_jsonb_refuses() -> None:
    assert dumps({"a": float("nan"), "b": [float("inf"), 1.5], "c": "x\x00y", "d": "\\u0000"}) == (
        '{"a":null,"b":[null,1.5],"c":"x\\ufffdy","d":"\\\\u0000"}'
    )


def test_an_odd_text_can_be_stored(world: World) -> None:
    step = world.steps.finish(world.step(world.run()).id, {"text": "a\x00b\\u0000 \N{PILE OF POO}"})
    assert step.result == {"text": "a\N{REPLACEMENT CHARACTER}b\\u0000 \N{PILE OF POO}"}


def test_a_limit_of_what_is_asked_is_no_outage(database: Database) -> None:
    with pytest.raises(StatementRefused, match="54000"), database.transaction() as session:
        session.execute(text("select repeat('x', 2000000000)"))
