"""Questions to a server on 127.0.0.1 that show whether it does its work: each returns, or raises while it does not."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Probe = Callable[[], Awaitable[None]]


class NotReady(ValueError):
    """The server answered, but not that it is ready."""


def http(port: int, path: str, token: str | None = None, holds: str = "") -> Probe:
    """GET answers 2xx or 3xx, with a body that *holds* a text. Written on bare sockets: the supervisor stays small and never blocks."""

    async def probe() -> None:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        async with _connection(port) as (reader, writer):
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            status = (await reader.readline()).split()
            body = await reader.read() if holds else b""
        if len(status) < 2 or status[1][:1] not in (b"2", b"3"):
            raise NotReady(f"{path} answers {b' '.join(status[1:]).decode(errors='replace') or 'nothing'}")
        if holds.encode() not in body:
            raise NotReady(f"{path} does not tell of {holds}")

    return probe


def postgres(port: int, user: str) -> Probe:
    """Postgres takes connections: it asks who we are, as it does to `pg_isready` (frontend/backend protocol 3.0, StartupMessage)."""
    body = b"user\0" + user.encode() + b"\0database\0postgres\0\0"
    startup = struct.pack("!II", len(body) + 8, 3 << 16) + body

    async def probe() -> None:
        async with _connection(port) as (reader, writer):
            writer.write(startup)
            if (answer := await reader.readexactly(1)) != b"R":  # R: authentication request; E: still starting or recovering
                raise NotReady(f"Postgres answers {answer!r}")

    return probe


def both(first: Probe, second: Probe) -> Probe:
    """Both probes return."""

    async def probe() -> None:
        await first()
        await second()

    return probe


@asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
