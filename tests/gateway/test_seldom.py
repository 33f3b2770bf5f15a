"""What costs much is found out once for all who ask."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from perdure.gateway import seldom
from perdure.gateway.seldom import Seldom


async def test_what_takes_long_is_found_out_once_for_all_and_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "AT_ONCE", 0.03)
    asked = []

    def work() -> int:
        asked.append(1)
        time.sleep(0.05)
        return len(asked)

    with ThreadPoolExecutor(1) as pool:
        figures = Seldom(pool)
        assert await asyncio.gather(*(figures.found("a", work) for _ in range(9))) == [1] * 9
        assert await figures.found("a", work) == 1
        assert await figures.found("b", work) == 2
        later = time.monotonic() + 60
        monkeypatch.setattr(seldom.time, "monotonic", lambda: later)
        assert await figures.found("a", work) == 3


async def test_what_is_found_out_at_once_or_fails_is_not_kept() -> None:
    asked = []

    def work() -> int:
        asked.append(1)
        if len(asked) == 2:
            raise ValueError("no")
        return len(asked)

    with ThreadPoolExecutor(1) as pool:
        figures = Seldom(pool)
        assert await figures.found("a", work) == 1
        with pytest.raises(ValueError, match="no"):
            await figures.found("a", work)
        assert await figures.found("a", work) == 3
