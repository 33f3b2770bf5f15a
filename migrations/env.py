"""How Alembic runs our migrations: each in its own short transaction, with bounded waits for locks.

`perdure.metadata.upgrade` hands over a connection that holds the upgrade lock; by ``alembic`` itself (to write a new revision) the
database of the settings is used.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text

from perdure.config import Settings
from perdure.metadata.database import connect_args, url
from perdure.metadata.tables import metadata


def migrate(connection: Connection) -> None:
    """Run what is asked for on *connection*."""
    with connection.begin():
        # A migration that waits for a lock makes everybody behind it wait: give up early, and try again in a quiet moment.
        connection.execute(text("SET SESSION lock_timeout = '4s'"))
        connection.execute(text("SET SESSION statement_timeout = '10min'"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    postgres = Settings().postgres
    with create_engine(url(postgres), connect_args=connect_args(postgres)).connect() as own:
        migrate(own)
