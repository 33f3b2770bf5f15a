"""Keys that callers show, looked up once for all who show them meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from perdure.errors import StoreUnavailable
from perdure.metadata.repository.access import Key
from perdure.web.keys import Keys


class Rows:
    """Answers a look once it may."""

    def __init__(self, found: Key | Exception | None) -> None:
        self.found, self.open, self.looks = found, asyncio.Event(), 0

    async def __call__(self, digest: str) -> Key | None:
        self.looks += 1
        await self.open.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


KEY = Key(id=uuid4(), principal="ada", scopes=["label"], created_at=datetime.now(UTC))


async def test_who_comes_at_once_shares_one_look() -> None:
    rows = Rows(KEY)
    keys = Keys(rows)
    calls = [asyncio.create_task(keys.caller("secret")) for _ in range(16)]
    await asyncio.sleep(0)
    calls[0].cancel()  # its client went
    with suppress(asyncio.CancelledError):
        await calls[0]
    rows.open.set()
    callers = await asyncio.gather(*calls[1:])
    assert {caller.principal for caller in callers if caller is not None} == {"ada"}
    assert len(callers) == 15
    assert rows.looks == 1


async def test_a_look_that_fails_is_no_answer() -> None:
    rows = Rows(StoreUnavailable("away"))
    rows.open.set()
    keys = Keys(rows)
    for looks in (1, 2):
        with pytest.raises(StoreUnavailable):
            await keys.caller("secret")
        assert rows.looks == looks
