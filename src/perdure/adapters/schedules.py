"""Temporal's schedules, made equal to those that a specification wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from perdure.messages.common import Json
from perdure.retraining.schedules import Wanted

QUEUE = "perdure"
ANSWER = timedelta(seconds=5)
_MEMO = "perdure"


@dataclass(frozen=True)
class Change:
    """What was done to one schedule: created, changed, removed, or unchanged."""

    id: str
    done: str


async def apply(client: Client, pipeline: str, models: Iterable[str], schedules: Sequence[Wanted]) -> list[Change]:
    """Create, change and remove schedules of *pipeline* until they are *schedules*. What people have paused stays so. Raises RPCError.

    *models* are all that it has ever trained: whose monitor it wants no more is removed.
    """
    changes = [await _ensure(client, each) for each in schedules]
    ids = {each.id for each in schedules}
    number = sum(id.startswith("schedule/") for id in ids)
    surplus = [monitor for model in models if (monitor := f"monitor/{model}") not in ids]
    while await _is_own(client, f"schedule/{pipeline}/{number}", pipeline):
        surplus.append(f"schedule/{pipeline}/{number}")
        number += 1
    for id in reversed(surplus):  # the last one first: what is left of an attempt that died has no gap, and is found again
        if await _is_own(client, id, pipeline):
            await client.get_schedule_handle(id).delete(rpc_timeout=ANSWER)
            changes.append(Change(id, "removed"))
    return changes


async def _ensure(client: Client, wanted: Wanted) -> Change:
    try:
        await client.create_schedule(wanted.id, _schedule(wanted), rpc_timeout=ANSWER)
    except ScheduleAlreadyRunningError:
        if (await _memo(client, wanted.id) or {}).get("sha256") == wanted.sha256:
            return Change(wanted.id, "unchanged")
    else:
        return Change(wanted.id, "created")

    def changed(before: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=_schedule(wanted, before.description.schedule.state))

    await client.get_schedule_handle(wanted.id).update(changed, rpc_timeout=ANSWER)
    return Change(wanted.id, "changed")


async def _is_own(client: Client, id: str, pipeline: str) -> bool:
    """Whether the schedule is there, and not another pipeline's."""
    memo = await _memo(client, id)
    return memo is not None and memo.get("pipeline") == pipeline


async def _memo(client: Client, id: str) -> Json | None:
    """What `apply` noted in the schedule; None where there is none."""
    try:
        described = await client.get_schedule_handle(id).describe(rpc_timeout=ANSWER)
    except RPCError as err:
        if err.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None
    action = described.schedule.action
    payload: Any = (action.memo or {}).get(_MEMO) if isinstance(action, ScheduleActionStartWorkflow) else None
    if payload is None:
        return {}
    [said] = await client.data_converter.decode([payload])
    return said if isinstance(said, dict) else {}


def _schedule(wanted: Wanted, state: ScheduleState | None = None) -> Schedule:
    """*wanted* as Temporal's; dates wait for each other, looks are skipped while one goes on."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            wanted.workflow,
            wanted.argument,
            id=f"{wanted.id}/at",  # Temporal appends the time
            task_queue=QUEUE,
            memo={_MEMO: {"pipeline": wanted.pipeline, "sha256": wanted.sha256}},
        ),
        spec=ScheduleSpec(
            cron_expressions=[wanted.cron] if wanted.cron else [],
            intervals=[ScheduleIntervalSpec(every=wanted.every)] if wanted.every else [],
            jitter=wanted.jitter or None,
            time_zone_name=wanted.timezone,
        ),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.BUFFER_ONE if wanted.cron else ScheduleOverlapPolicy.SKIP, catchup_window=wanted.catchup
        ),
        state=state or ScheduleState(),
    )
