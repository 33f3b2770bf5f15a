"""What every activity gets without asking: heartbeats, patience with unreachable parts, bounded errors, logs with ids.

An activity raises `Transient` where a part does not answer. It is then run again here, in the same attempt, until the request's
``patience`` is over: so waiting costs no history, a dead worker is still noticed within the heartbeat timeout, and no policy counts
attempts.

An exception that nobody foresaw is a defect. It is retried by Temporal, as it may pass, and ends the run at the tenth time in a row.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput, Interceptor

from perdure.errors import Defect, PatienceExhausted, PerdureError, Transient, bounded
from perdure.messages.common import PATIENCE

BEAT = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=3)
FIRST_RETRY = timedelta(seconds=0.2)  # after an unforeseen exception; doubled each time
DEFECTS = 10  # unforeseen exceptions in a row; with the pauses between them they last for almost two minutes
STEADY = 600.0  # seconds after which an attempt counts as one that went well


class Pulse:
    """What the running activity says about itself: sent with each heartbeat, for people only."""

    def __init__(self) -> None:
        self.detail: dict[str, Any] = {}
        self.failing_since: float | None = None
        self.defects = 0  # unforeseen exceptions in a row, over the activity's attempts
        self.began = time.monotonic()

    def said(self) -> dict[str, Any]:
        """What a heartbeat says; the next attempt finds it."""
        return {**self.detail, "defects": self.defects} if self.defects else self.detail

    def ok(self, **detail: Any) -> None:
        """All parts answer: the patience starts anew."""
        self.detail, self.failing_since = detail, None


_pulse: ContextVar[Pulse] = ContextVar("pulse")


def pulse() -> Pulse:
    """The running activity's pulse; a silent one outside of a worker (unit tests)."""
    return _pulse.get(None) or Pulse()


def stop_if_asked() -> None:
    """Raise where this attempt should end: `asyncio.CancelledError` if cancelled, a retryable error if the worker shuts down."""
    if activity.is_cancelled():
        raise asyncio.CancelledError("cancelled")
    if activity.is_worker_shutdown():
        raise ApplicationError("this worker shuts down; another attempt goes on", type="WorkerShutdown")


class Guard(Interceptor):
    """The interceptor of every worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap each activity attempt."""
        return _Guarded(next)


class _Guarded(ActivityInboundInterceptor):
    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        # Beats go through the outbound interceptor: `activity.heartbeat` is bound to the activity's own thread and would block the loop.
        self._outbound = outbound
        super().init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        state = Pulse()
        state.defects = _defects_before()
        _pulse.set(state)
        beating = asyncio.create_task(self._beat(state))
        try:
            return await self._patiently(input, state)
        except PerdureError:
            raise
        except ApplicationError as err:
            raise ApplicationError(
                bounded(err.message),
                *err.details,
                type=err.type,
                non_retryable=err.non_retryable,
                next_retry_delay=err.next_retry_delay,
                category=err.category,
            ) from err
        except Exception as err:
            raise self._defect(err, state) from err
        finally:
            beating.cancel()

    def _defect(self, err: Exception, state: Pulse) -> ApplicationError:
        """*err* for Temporal, with a text that cannot break its payload limit."""
        text, name = bounded(f"{type(err).__name__}: {err}"), activity.info().activity_type
        state.defects = state.defects + 1 if time.monotonic() - state.began < STEADY else 1
        activity.logger.exception("an unforeseen exception")
        if state.defects >= DEFECTS:
            return Defect(
                f"{name} ended {state.defects} times with an exception that nobody foresaw, which is a defect of Perdure: {text}",
                remedy="report it, with the traceback in the worker's log; run again once it is mended: committed work is reused",
            )
        state.detail = {"waiting_for": f"another try after {bounded(text, 300)}"}
        self._outbound.heartbeat(state.said())
        return ApplicationError(text, type=type(err).__name__, next_retry_delay=FIRST_RETRY * 2 ** (state.defects - 1))

    async def _beat(self, state: Pulse) -> None:
        while True:
            self._outbound.heartbeat(state.said())
            await asyncio.sleep(BEAT.total_seconds())

    async def _patiently(self, input: ExecuteActivityInput, state: Pulse) -> Any:
        patience: timedelta = getattr(input.args[0], "patience", PATIENCE) if input.args else PATIENCE
        pause = 0.1
        while True:
            try:
                return await self.next.execute_activity(input)
            except Transient as err:
                now = time.monotonic()
                if state.failing_since is None:
                    state.failing_since, pause = now, 0.1
                    activity.logger.warning("waiting for %s", err.part, extra={"error": err.problem})
                waited = now - state.failing_since
                if waited > patience.total_seconds():
                    raise PatienceExhausted(
                        f"{err.part} did not answer for {waited:.0f} s: {err.problem}",
                        remedy=f"see that {err.part} runs (`perdure doctor`) and run again, committed work is reused; or raise `patience`",
                    ) from err
                since = datetime.now(UTC) - timedelta(seconds=waited)
                state.detail = {"waiting_for": err.part, "since": since.isoformat(timespec="seconds"), "error": bounded(err.problem, 300)}
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE.total_seconds())
                stop_if_asked()


def _defects_before() -> int:
    """How many attempts in a row, until this one, ended with an unforeseen exception: the last heartbeat told it."""
    [said] = list(activity.info().heartbeat_details)[:1] or [None]
    return int(said.get("defects", 0)) if isinstance(said, dict) else 0
