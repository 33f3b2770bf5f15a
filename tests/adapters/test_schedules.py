"""Temporal's schedules follow a specification, on the real server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, ScheduleHandle, ScheduleOverlapPolicy
from temporalio.service import RPCError, RPCStatusCode

from perdure.adapters.schedules import apply
from perdure.retraining.schedules import wanted
from perdure.spec.pipeline import Pipeline, load
from perdure.temporal import connect
from tests.servers import Stack


@pytest.fixture
async def client(stack: Stack) -> Client:
    return await connect(stack.settings)


def spec(name: str, *triggers: dict[str, Any], **more: Any) -> Pipeline:
    data = {"source": {"uri": "x.csv", "format": "csv"}, "target": "label"}
    return load({"name": name, "data": data, "triggers": list(triggers), **more})


async def synced(client: Client, pipeline: Pipeline, *before: str) -> dict[str, str]:
    """*before* are models that earlier versions trained."""
    changes = await apply(client, pipeline.name, [pipeline.model_name, *before], wanted(pipeline))
    return {each.id: each.done for each in changes}


def test_a_specification_says_which_schedules_it_wants() -> None:
    pipeline = spec("p", {"labels": 5}, {"data": "new", "every": "10m"}, {"schedule": "@daily", "jitter": "5m"}, model="m", monitor={})
    looks, dates, monitor = wanted(pipeline)
    assert (looks.id, looks.every, looks.argument) == (
        "schedule/p/0",
        timedelta(minutes=10),
        {"pipeline": "p", "kind": "data", "number": 0},
    )
    assert (dates.id, dates.cron, dates.argument["kind"], dates.jitter) == ("schedule/p/1", "@daily", "schedule", timedelta(minutes=5))
    assert (monitor.id, monitor.workflow, monitor.argument, monitor.every) == (
        "monitor/m",
        "DriftMonitor",
        {"model": "m"},
        timedelta(hours=1),
    )
    assert looks.sha256 != dates.sha256


async def test_schedules_are_created_changed_and_removed_and_pauses_are_kept(client: Client) -> None:
    name = f"p{uuid4().hex[:8]}"
    weekly, hourly = {"schedule": "0 3 * * 1", "timezone": "Europe/Berlin", "catchup": "2h"}, {"data": "new"}
    ids = [f"schedule/{name}/0", f"schedule/{name}/1", f"monitor/{name}"]
    first = spec(name, weekly, hourly, monitor={"every": "2h"})
    assert await synced(client, first) == dict.fromkeys(ids, "created")
    assert await synced(client, first) == dict.fromkeys(ids, "unchanged")

    handle = client.get_schedule_handle(ids[0])
    described = (await handle.describe()).schedule
    assert described.spec.time_zone_name == "Europe/Berlin"
    assert (described.policy.overlap, described.policy.catchup_window) == (ScheduleOverlapPolicy.BUFFER_ONE, timedelta(hours=2))

    await handle.pause(note="holidays")
    daily = spec(name, {**weekly, "schedule": "0 4 * * *"}, hourly, monitor={"every": "2h"})
    assert await synced(client, daily) == {ids[0]: "changed", ids[1]: "unchanged", ids[2]: "unchanged"}
    described = (await handle.describe()).schedule
    assert described.state.paused
    assert described.spec.calendars[0].hour[0].start == 4

    assert await synced(client, spec(name, hourly)) == {ids[0]: "changed", ids[1]: "removed", ids[2]: "removed"}
    assert await synced(client, spec(name)) == {ids[0]: "removed"}
    assert await synced(client, spec(name)) == {}
    with pytest.raises(RPCError) as gone:
        await handle.describe()
    assert gone.value.status is RPCStatusCode.NOT_FOUND


async def test_another_pipelines_monitor_is_left_alone(client: Client) -> None:
    model = f"m{uuid4().hex[:8]}"
    owner, other = spec(f"a{model}", model=model, monitor={}), spec(f"b{model}", model=model)
    await synced(client, owner)
    assert await synced(client, other) == {}
    assert await synced(client, owner) == {f"monitor/{model}": "unchanged"}
    renamed = spec(f"a{model}", model=f"{model}-2", monitor={})
    assert await synced(client, renamed, model) == {f"monitor/{model}-2": "created", f"monitor/{model}": "removed"}
    assert await synced(client, spec(f"a{model}"), model, f"{model}-2") == {f"monitor/{model}-2": "removed"}


async def test_what_an_attempt_that_died_left_is_removed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"p{uuid4().hex[:8]}"
    three = spec(name, *({"schedule": f"0 {hour} * * *"} for hour in range(3)))
    await synced(client, three)
    delete = ScheduleHandle.delete
    deleted: list[str] = []

    async def once(self: ScheduleHandle, **options: Any) -> None:
        if deleted:
            raise RuntimeError("killed")
        deleted.append(self.id)
        await delete(self, **options)

    with monkeypatch.context() as killed:
        killed.setattr(ScheduleHandle, "delete", once)
        with pytest.raises(RuntimeError):
            await synced(client, spec(name))
    assert await synced(client, spec(name)) == {f"schedule/{name}/{number}": "removed" for number in (1, 0)}
