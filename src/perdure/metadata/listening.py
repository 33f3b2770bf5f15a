"""Waiting for NOTIFY: a hint that rows have come, which may be lost. Whoever listens looks by himself, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psycopg

from perdure.config import PostgresSettings
from perdure.errors import PerdureError
from perdure.metadata.database import connect_args, url

OUTBOX = "perdure_outbox"
TRAFFIC = "perdure_traffic"
"""Releases or shares of the traffic have changed."""
FEEDBACK = "perdure_feedback"
"""Somebody said that a prediction is wrong."""


class Listener:
    """One connection that listens on one channel, made again where it was lost."""

    def __init__(self, settings: PostgresSettings, channel: str) -> None:
        self._settings, self._channel = settings, channel
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, settings: PostgresSettings, channel: str) -> Iterator[Listener]:
        """A listener whose connection ends with the block. Connects when first asked."""
        listener = cls(settings, channel)
        try:
            yield listener
        finally:
            listener._drop()

    def wait(self, seconds: float) -> bool:
        """Wait for a notification, at most so long. Whether one came; without a server it is a mere pause."""
        end = time.monotonic() + seconds
        try:
            if self._connection is None:
                self._connection = self._connected()
                return True  # what was notified before could not be heard
            heard = [*self._connection.notifies(timeout=max(0.0, seconds), stop_after=1)]
        except (psycopg.Error, PerdureError):  # the latter: a secret that is being changed cannot be read
            self._drop()
            time.sleep(max(0.0, end - time.monotonic()))
            return False
        return bool(heard)

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        address = url(self._settings).set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(address, autocommit=True, **connect_args(self._settings))
        connection.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(self._channel)))
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
