"""Connections of one command: opened when first needed, gone with the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from perdure.cli.failures import temporal_errors

if TYPE_CHECKING:
    from temporalio.client import Client

    from perdure.config import Settings

T = TypeVar("T")
CONNECT = timedelta(seconds=5)


def read_settings() -> Settings:
    """The settings of this machine and folder. Raises InvalidInput naming what cannot be read."""
    from pydantic import ValidationError

    from perdure.config import Settings, find_home
    from perdure.errors import InvalidInput

    try:
        return Settings()
    except ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in err.errors())
        raise InvalidInput(wrong, field="settings", remedy=f"mend {find_home() / 'settings.json'}, or the PERDURE_* variable") from err
    except ValueError as err:
        raise InvalidInput(f"no JSON: {err}", field="settings", remedy=f"mend {find_home() / 'settings.json'}") from err


def wait_for(work: Coroutine[object, object, T]) -> T:
    """The result of *work*."""
    return asyncio.run(work)


@asynccontextmanager
async def temporal(settings: Settings, what: str) -> AsyncIterator[Client]:
    """A client of Temporal. Raises TemporalUnavailable where it does not answer; *what* is the thing that is asked for, in errors."""
    from perdure.errors import TemporalUnavailable
    from perdure.temporal import connect

    try:
        client = await asyncio.wait_for(connect(settings), CONNECT.total_seconds())
    except (RuntimeError, TimeoutError) as err:
        address = settings.temporal.address
        raise TemporalUnavailable(
            f"no answer at {address}",
            field="temporal.address",
            remedy="`perdure up` starts one here; `perdure doctor` looks for the cause",
        ) from err
    with temporal_errors(what):
        yield client
