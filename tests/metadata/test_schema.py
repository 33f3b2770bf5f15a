from __future__ import annotations

import re

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, Enum, NullPool, create_engine, inspect, text

from perdure.config import Settings
from perdure.metadata import tables as t
from perdure.metadata.database import url
from perdure.metadata.upgrade import config, upgrade
from perdure.metadata.views import feedback_history, model_origin, release_history, serving_history
from tests.metadata.conftest import Fresh


def engine_of(settings: Settings) -> Engine:
    return create_engine(url(settings.postgres), poolclass=NullPool)


@pytest.fixture
def connection(fresh: Fresh) -> Connection:
    settings = fresh()
    upgrade(settings)
    with engine_of(settings).connect() as opened:
        yield opened


def test_migrations_make_the_tables(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, t.metadata) == []


CHECKS = """
    select c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) from pg_constraint c
    join pg_namespace n on n.oid = c.connamespace where c.contype = 'c' and n.nspname = '{schema}'
"""
INDEXES = "select tablename, indexname, replace(indexdef, '{schema}.', '') from pg_indexes where schemaname = '{schema}'"


@pytest.mark.parametrize("query", [CHECKS, INDEXES], ids=["checks", "indexes"])
def test_what_alembic_does_not_compare(connection: Connection, query: str) -> None:
    """A value added to an enum, or another condition of a partial index, would pass unnoticed until the first insert."""
    migrated = {tuple(row) for row in connection.execute(text(query.format(schema="public"))) if row[0] != "alembic_version"}
    connection.execute(text("create schema declared; set local search_path to declared"))
    t.metadata.create_all(connection)
    declared = {tuple(row) for row in connection.execute(text(query.format(schema="declared")))}
    assert migrated == declared
    connection.rollback()


def test_every_enum_has_its_check(connection: Connection) -> None:
    for table in t.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Enum):
                name = f"ck_{table.name}_{column.type.name}"
                query = text("select pg_get_constraintdef(oid) from pg_constraint where conname = :name")
                allowed = re.findall("'(.+?)'", connection.execute(query, {"name": name}).scalar_one())
                assert allowed == column.type.enums, name


def test_views_have_the_columns_that_queries_read(connection: Connection) -> None:
    for view in (release_history, model_origin, serving_history, feedback_history):
        assert {column["name"] for column in inspect(connection).get_columns(view.name)} == set(view.columns.keys())


def test_no_extension_is_needed(connection: Connection) -> None:
    assert connection.execute(text("select extname from pg_extension")).scalars().all() == ["plpgsql"]


def test_migrations_go_back_and_forward(fresh: Fresh) -> None:
    settings = fresh()
    upgrade(settings)
    with engine_of(settings).connect() as connection:
        command.downgrade(config(connection), "base")
    with engine_of(settings).connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []
        functions = "select proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'public'"
        assert connection.execute(text(functions)).all() == []
    assert upgrade(settings).before is None


@pytest.mark.parametrize("statement", ["update audit set actor = 'x'", "delete from audit", "truncate audit"])
def test_the_audit_cannot_be_rewritten(connection: Connection, statement: str) -> None:
    connection.execute(text("insert into audit (actor, action, object_id) values ('ann', 'run.pause', gen_random_uuid())"))
    with pytest.raises(Exception, match="audit is append-only"):
        connection.execute(text(statement))


STEP = (
    "insert into step_run (id, run_id, round, step, state, result, finished_at) values (gen_random_uuid(), gen_random_uuid(), 0, 'train', "
)
RELEASE = (
    "insert into release (id, model, model_version_id, actor, reason, since, until)"
    " values (gen_random_uuid(), 'm', gen_random_uuid(), '', '', "
)
CONTRADICTIONS = {
    "ck_release_interval": RELEASE + "now(), now())",
    "ck_step_run_finished": STEP + "'lost', null, null)",
    "ck_step_run_result": STEP + "'running', '{}', null)",
    "ck_step_run_stepstate": STEP + "'dead', null, now())",
    "ck_artifact_sha256": "insert into artifact (id, kind, uri, sha256, size) values (gen_random_uuid(), 'code', 'u', 'short', 1)",
}


@pytest.mark.parametrize("constraint", CONTRADICTIONS)
def test_rows_that_contradict_themselves_are_refused(connection: Connection, constraint: str) -> None:
    with pytest.raises(Exception, match=constraint):
        connection.execute(text(CONTRADICTIONS[constraint]))


def test_one_release_of_a_model_is_open(connection: Connection) -> None:
    connection.execute(text("set session_replication_role = replica"))  # without foreign keys
    connection.execute(text(RELEASE + "now() - interval '1 day', now())"))
    connection.execute(text(RELEASE + "now(), null)"))
    with pytest.raises(Exception, match="uq_release_open"):
        connection.execute(text(RELEASE + "now(), null)"))
