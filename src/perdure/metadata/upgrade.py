"""The schema's version: bring a database up to this code, or say why not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import Connection, NullPool, create_engine, text

from perdure.config import PostgresSettings, Settings
from perdure.errors import AccessDenied, SchemaTooNew, SchemaTooOld
from perdure.metadata.database import connect_args, translated, url

LOCK = "hashtextextended('perdure/schema', 0)"
WAIT = "10min"  # for another upgrade; its own statements are bounded by the migrations' environment
MAINTENANCE = "postgres"  # the database that exists everywhere, from which ours is created


@dataclass(frozen=True, kw_only=True)
class UpgradeResult:
    """What `upgrade` did: the revision before (None: an empty database) and after, and whether the database was created."""

    before: str | None
    after: str
    created: bool
    seconds: float


def upgrade(settings: Settings) -> UpgradeResult:
    """Bring the database to this code's schema; creates it where it is missing. Safe to call at once from many processes.

    Raises SchemaTooNew, AccessDenied, StoreUnavailable.
    """
    started = time.monotonic()
    with translated():
        created = _create(settings.postgres)
        with _connection(settings.postgres) as connection, _locked(connection):
            before = _revision(connection)
            _refuse_newer(before)
            if before != head():
                command.upgrade(config(connection), "head")
            return UpgradeResult(before=before, after=head(), created=created, seconds=time.monotonic() - started)


def check(settings: Settings) -> str:
    """The schema's revision, which is this code's. Raises SchemaTooNew, or SchemaTooOld where `perdure db upgrade` is due."""
    with translated(), _connection(settings.postgres) as connection:
        revision = _revision(connection)
    _refuse_newer(revision)
    if revision != head():
        found = f"at revision {revision}, older than {head()}," if revision else "empty"
        raise SchemaTooOld(
            f"the database is {found} where this code needs {head()}", field="postgres.url", remedy="run `perdure db upgrade`"
        )
    return revision


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, as the migrations' environment reads it."""
    found = Config()
    found.set_main_option("script_location", "perdure:migrations")
    found.attributes["connection"] = connection
    return found


def head() -> str:
    """The revision of this code's schema."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    assert revision is not None, "there is a first migration"
    return revision


def _revision(connection: Connection) -> str | None:
    with connection.begin():
        return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(revision: str | None) -> None:
    if revision is None:
        return
    try:
        ScriptDirectory.from_config(config()).get_revision(revision)
    except CommandError:
        raise SchemaTooNew(
            f"the database is at schema revision {revision}, which this code (revision {head()}) does not know",
            field="postgres.url",
            remedy="install the version of Perdure that upgraded it, or a newer one",
        ) from None


def _create(settings: PostgresSettings) -> bool:
    """Create the database where it is missing; whether it was. Another process may do so at the same moment."""
    try:
        with _connection(settings):
            return False
    except SchemaTooOld:  # how a missing database is told
        address = url(settings).set(database=MAINTENANCE)
    name = url(settings).database
    assert name is not None, "url() wants one"
    engine = create_engine(address, connect_args=connect_args(settings), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with translated(), engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        try:
            driver.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False
        except psycopg.errors.InsufficientPrivilege as err:
            raise AccessDenied(
                f"the database {name!r} is missing, and {address.username!r} may not create it",
                field="postgres.url",
                remedy=f"let an administrator run: CREATE DATABASE {name} OWNER {address.username} ENCODING 'UTF8' TEMPLATE template0",
            ) from err
    return True


@contextmanager
def _connection(settings: PostgresSettings) -> Iterator[Connection]:
    engine = create_engine(url(settings), connect_args=connect_args(settings), poolclass=NullPool)
    with translated(), engine.connect() as connection:
        yield connection


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """One upgrade at a time: the others wait, and then find nothing left to do. A session's lock, freed even by kill -9."""
    with connection.begin():
        connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT}'"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{WAIT}'"))
        connection.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            with connection.begin():
                connection.execute(text(f"SELECT pg_advisory_unlock({LOCK})"))
