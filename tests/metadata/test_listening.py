"""Listening for hints."""

from __future__ import annotations

from pathlib import Path

from perdure.config import PostgresSettings
from perdure.metadata.listening import OUTBOX, Listener


def test_without_server_or_secret_it_is_a_pause(tmp_path: Path) -> None:
    for password in (None, f"file:{tmp_path / 'gone'}"):
        settings = PostgresSettings(url="postgresql+psycopg://p@127.0.0.1:1/p", password=password)
        with Listener.open(settings, OUTBOX) as listener:
            assert not listener.wait(0.01)
