"""The one way to Postgres: a bounded pool, short transactions, and errors that say what to do."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString, ParamSpec, TypeVar

import psycopg
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from perdure.config import PostgresSettings, Settings, resolve_secret
from perdure.errors import AccessDenied, InvalidInput, PerdureError, SchemaTooOld, StorageFull, StoreUnavailable
from perdure.metadata.jsonb import dumps

# A worker that is stopped inside a transaction must not hold its locks: the server ends the session, the worker's COMMIT then fails. One
# whose machine has vanished must not hold those of its session: the server asks for a sign of life.
SESSION = (
    "-c statement_timeout=60s -c lock_timeout=30s -c idle_in_transaction_session_timeout=30s -c TimeZone=UTC"
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
CONNECT_SECONDS = 5
POOL_SECONDS = 30
UNIQUE_VIOLATION = "23505"
TRIES = 5
P = ParamSpec("P")
R = TypeVar("R")


class Database:
    """One pool of connections for one tenant. Safe for threads; made once per process.

    *settings.password* is resolved here, and nowhere written.
    """

    def __init__(self, settings: PostgresSettings, *, tenant: str = "default") -> None:
        self.tenant = tenant
        self.engine: Engine = create_engine(
            url(settings),
            connect_args=connect_args(settings),
            pool_size=settings.pool,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,  # a server that was restarted costs one ping, not one failed activity
            hide_parameters=True,  # rows hold the owner's data: none of it in an error's text
            json_serializer=dumps,
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._joined = threading.local()

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator[Database]:
        """The database of *settings*, closed at the end of the block. Connects when first used."""
        database = cls(settings.postgres, tenant=settings.tenant)
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises `StoreUnavailable` where the connection is lost. If that was during COMMIT, it may have taken: every key is made by the
        caller, so the same operation again finds its own rows. Raises `AccessDenied`, `StorageFull` and `SchemaTooOld` likewise.
        """
        outer: Session | None = getattr(self._joined, "session", None)
        if outer is not None:
            yield outer
            outer.flush()
            outer.expire_all()  # as every transaction reads anew
            return
        with translated(), self._sessions.begin() as session:
            yield session

    @contextmanager
    def joined(self) -> Iterator[Session]:
        """All transactions of this thread inside the block are one: all that they wrote is committed, or none of it."""
        with self.transaction() as session:
            self._joined.session = session
            try:
                yield session
            finally:
                self._joined.session = None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def ask(session: Session, *statements: tuple[LiteralString, dict[str, Any]]) -> list[list[tuple[Any, ...]]]:
    """The rows of each statement in the transaction of *session*. They are sent at once, and done one after the other.

    For what every label pays for: SQLAlchemy would double its price, and to wait for each result costs more. Raises psycopg's errors.
    """
    connection: psycopg.Connection[Any] = session.connection().connection.driver_connection  # type: ignore[assignment]
    with connection.pipeline():
        cursors = [connection.execute(query, values) for query, values in statements]
    return [cursor.fetchall() for cursor in cursors]


def url(settings: PostgresSettings) -> URL:
    """The address with its password. Raises InvalidInput where it is not one of Postgres by psycopg."""
    try:
        address = make_url(settings.url)
    except ArgumentError as err:
        raise InvalidInput("this is no database URL", field="postgres.url", remedy="postgresql+psycopg://user@host:port/database") from err
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername != "postgresql+psycopg" or not address.database:
        raise InvalidInput(
            f"{address.render_as_string()} names no Postgres database",
            field="postgres.url",
            remedy="postgresql+psycopg://user@host:port/database",
        )
    return address.set(password=resolve_secret(settings.password)) if settings.password else address


def connect_args(settings: PostgresSettings) -> dict[str, Any]:
    """Bounds on every wait; what the URL itself says goes first."""
    wanted = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "perdure",
        "options": SESSION,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # ms: a peer that vanished without a word is noticed
    }
    said = make_url(settings.url).query
    return {name: value for name, value in wanted.items() if name not in said}


class StatementRefused(RuntimeError):
    """Postgres refused a statement for a reason that is a mistake of this code. Says which, but nothing that the rows hold."""


class Overtaken(StatementRefused):
    """Somebody else wrote the same key at the same moment. Who does the same again finds their row."""


def again(method: Callable[P, R]) -> Callable[P, R]:
    """*method*, which is one transaction, done anew where it was overtaken. Raises StoreUnavailable where that happens again and again."""

    @functools.wraps(method)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(TRIES):
            with suppress(Overtaken):
                return method(*args, **kwargs)
        raise StoreUnavailable("others wrote under the same keys at the same moment, again and again")

    return tried


@contextmanager
def translated() -> Iterator[None]:
    """Errors of SQLAlchemy and psycopg inside become those of `perdure.errors`, else `StatementRefused`.

    Their own texts go no further: they hold whole statements, and the contents of rows.
    """
    try:
        yield
    except PoolTimeout as err:
        raise StoreUnavailable(
            "no connection became free", remedy="raise `postgres.pool`, or look for a statement that hangs (pg_stat_activity)"
        ) from err
    except (DBAPIError, psycopg.Error) as err:
        cause = err.orig if isinstance(err, DBAPIError) else err
        if not isinstance(cause, psycopg.Error):
            raise
        refused = Overtaken if cause.sqlstate == UNIQUE_VIOLATION else StatementRefused
        raise _known(cause) or refused(f"{cause.sqlstate}: {_text(cause)}") from None


def _known(cause: psycopg.Error) -> PerdureError | None:
    text = f"Postgres: {_text(cause)}"
    state = cause.sqlstate or _state_at_connect(text)
    if state.startswith("28") or state == "42501":
        return AccessDenied(text, field="postgres", remedy="correct `postgres.url` and the secret that `postgres.password` names")
    if state == "3D000":
        return SchemaTooOld(text, field="postgres.url", remedy="run `perdure db upgrade`, which creates it")
    if state in ("42P01", "42703"):
        return SchemaTooOld(text, field="postgres.url", remedy="run `perdure db upgrade`")
    if state == "53100":
        return StorageFull(text, field="postgres", remedy="free or add disk space on the database server")
    if state.startswith("54"):  # a limit of Postgres: of what is asked, not of the server now
        return None
    if isinstance(cause, psycopg.OperationalError) or state.startswith(("08", "25", "53", "57P")):
        return StoreUnavailable(text)
    return None


def _text(cause: psycopg.Error) -> str:
    """What the server says in one line, without its details; all that libpq says of a connection."""
    return cause.diag.message_primary or str(cause).strip()


def _state_at_connect(text: str) -> str:
    """The SQLSTATE of a refused connection, which libpq only tells in words; unknown words read as an unreachable server."""
    if "authentication failed" in text or "no password supplied" in text or "no pg_hba.conf entry" in text:
        return "28P01"
    if 'database "' in text and "does not exist" in text:
        return "3D000"
    return ""
