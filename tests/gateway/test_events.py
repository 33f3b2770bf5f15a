"""Events about drift from outside: each is a row once, and its model's controller is poked; what cannot be used leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from perdure.events.signals import receive
from perdure.gateway.rates import Rates
from perdure.gateway.replaying import replay
from perdure.messages.pipeline import RunState
from perdure.metadata.repository import AccessRows, DeliveryRows, RetrainingRows
from perdure.metadata.tables import HookProvider
from tests.events.test_reading import DATA, EVENT, PAYLOADS
from tests.gateway.world import People, Senders
from tests.metadata.test_retraining import BASE as ACTING
from tests.metadata.world import SPEC, World

STRUCTURED, BATCH = {"content-type": "application/cloudevents+json"}, {"content-type": "application/cloudevents-batch+json"}


@pytest.fixture
def model(senders: Senders) -> str:
    """The name of a new model."""
    name, world = f"m{uuid4().hex[:8]}", World(senders.database)
    world.model(world.run(name, spec=SPEC | {"name": name}), model=name)
    return name


@pytest.fixture
def kept(senders: Senders, model: str) -> Callable[[], tuple[int, int]]:
    """Counts the events of the model, and the pokes of its controller."""

    def count() -> tuple[int, int]:
        query = "select (select count(*) from drift_event where model = :m), (select count(*) from outbox where target = 'retrain/' || :m)"
        return senders.rows(query, m=model)[0]  # type: ignore[return-value]

    return count


def event(model: str, **changes: Any) -> dict[str, Any]:
    return EVENT | {"id": uuid4().hex, "subject": f"model/{model}"} | changes


async def test_each_event_once_in_whichever_form(client: httpx.AsyncClient, people: People, model: str, kept: Any) -> None:
    teller, one, other = people("monitor", "events:write"), event(model), event(model)
    first = await client.post("/v1/events", json=one, headers=teller | STRUCTURED)
    assert (first.status_code, first.json(), kept()) == (202, {"accepted": 1, "duplicates": 0}, (1, 1))
    both = await client.post("/v1/events", json=[one, other, other], headers=teller | BATCH)
    assert (both.status_code, both.json(), kept()) == (202, {"accepted": 1, "duplicates": 2}, (2, 2))
    binary = {f"ce-{name}": one[name] for name in ("specversion", "id", "source", "type", "subject")}
    again = await client.post("/v1/events", json=DATA, headers=teller | binary)
    assert (again.status_code, again.json(), kept()) == (202, {"accepted": 0, "duplicates": 1}, (2, 2))
    assert (await client.post("/v1/events", json=[], headers=teller | BATCH)).json() == {"accepted": 0, "duplicates": 0}


async def test_what_is_malformed_is_refused_and_leaves_nothing(client: httpx.AsyncClient, people: People, model: str, kept: Any) -> None:
    teller, good = people("monitor", "events:write"), event(model)
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (400, "body", {"content": b'{"specversion": ', "headers": STRUCTURED}),
        (400, "body", {"content": b"\xff\xfe", "headers": STRUCTURED}),
        (400, "body", {"content": b'{"n": NaN}', "headers": STRUCTURED}),
        (415, "Content-Type", {"content": b"<event/>", "headers": {"content-type": "application/cloudevents+xml"}}),
        (422, "Content-Type", {"json": good}),
        (422, "body", {"json": good, "headers": BATCH}),
        (422, "body", {"json": [good] * 1_001, "headers": BATCH}),
        (422, "specversion", {"json": {}, "headers": STRUCTURED}),
        (422, "1.type", {"json": [good, event(model, type="other")], "headers": BATCH}),
        (404, "model", {"json": [good, event("nobody")], "headers": BATCH}),
        (413, "body", {"content": b" " * ((8 << 20) + 1), "headers": STRUCTURED}),
    ]
    for status, field, request in cases:
        response = await client.post("/v1/events", **request | {"headers": teller | request.get("headers", {})})
        assert (response.status_code, response.json()["field"]) == (status, field), response.text
        assert response.headers["content-type"] == "application/problem+json"
    assert (await client.post("/v1/events", json=good, headers=STRUCTURED)).status_code == 401
    assert (await client.post("/v1/events", json=good, headers=people("ada") | STRUCTURED)).status_code == 403
    assert kept() == (0, 0)


async def test_signed_events_are_kept_and_tried_again(client: httpx.AsyncClient, senders: Senders, people: People, model: str) -> None:
    hook = senders.hook(HookProvider.EVENTS)
    early, later = f"m{uuid4().hex[:8]}", World(senders.database)
    signed = hook.signed([event(model), event(early)])
    signed["headers"] |= BATCH
    response = await client.post(hook.path, **signed)
    assert (response.status_code, response.json()["state"]) == (202, "quarantined")
    assert f"no version of {early}" in response.json()["error"]
    binary = hook.signed(DATA)  # what says so in its headers is read again by them
    attributes = event(early, subject=f"model/{early}")
    binary["headers"] |= {f"ce-{name}": attributes[name] for name in ("specversion", "id", "source", "type", "subject")}
    assert (await client.post(hook.path, **binary)).json()["state"] == "quarantined"
    later.model(later.run(early, spec=SPEC | {"name": early}), model=early)
    admin = people("root", "admin")
    for sent in (signed, binary):
        path = f"/v1/deliveries/{hook.id}/{sent['headers']['webhook-id']}:replay"
        assert [(await client.post(path, headers=admin)).json()["state"] for _ in range(2)] == ["processed"] * 2
    counted = senders.rows("select model, count(*) from drift_event where model = any(:m) group by 1", m=[early, model])
    assert dict(counted) == {early: 2, model: 1}
    assert (await client.post(hook.path, **signed)).status_code == 200


def notification(model: str, count: int = 2, **changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((PAYLOADS / "alertmanager.json").read_text()) | changes
    alert = said["alerts"][1]
    alerts = [alert | {"labels": alert["labels"] | {"model": model}, "fingerprint": f"{number:016x}"} for number in range(count)]
    return said | {"alerts": alerts}


async def test_alerts_are_levels(client: httpx.AsyncClient, senders: Senders, model: str, kept: Any) -> None:
    hook = senders.hook(HookProvider.ALERTMANAGER)
    path = f"{hook.path}/alertmanager"
    said = notification(model, 50)
    first = await client.post(path, **hook.by_label_studio(said))
    assert (first.status_code, first.json()["state"], kept()) == (202, "processed", (50, 1)), first.text
    again = await client.post(path, **hook.by_label_studio(said))  # in the next minute it is another delivery of the same alerts
    assert again.status_code in (200, 202)
    assert kept() == (50, 1)
    over = said | {"status": "resolved", "alerts": [each | {"status": "resolved"} for each in said["alerts"]]}
    await client.post(path, **hook.by_label_studio(over))
    states = senders.rows("select drifted, level, kind, count(*) from drift_event where model = :m group by 1, 2, 3 order by 1", m=model)
    assert states == [(False, True, "data", 50), (True, True, "data", 50)]
    other = await client.post(path, **hook.by_label_studio(notification("nobody")))
    assert (other.status_code, other.json()["state"]) == (202, "quarantined")
    assert (await client.post(path, **hook.by_label_studio(said, secret="other"))).status_code == 401
    events = senders.hook(HookProvider.EVENTS)
    assert (await client.post(f"{events.path}/alertmanager", **events.signed(said))).status_code == 404


async def test_a_thousand_alerts_lead_to_one_action(client: httpx.AsyncClient, senders: Senders) -> None:
    """Of one rule, sent one by one and in between looked at: one episode, one run, and each event names the decision that answered it."""
    name, hook = f"m{uuid4().hex[:8]}", senders.hook(HookProvider.ALERTMANAGER)
    world, looks = World(senders.database), RetrainingRows(senders.database)
    run = world.run(name, spec=ACTING | {"name": name})
    world.model(run, model=name)
    world.runs.close(run.id, RunState.SUCCEEDED, None)
    starts = []
    for part in range(10):
        said = notification(name, 1_000, groupKey=f"{part}")
        said["alerts"] = [
            each | {"labels": each["labels"] | {"drift": "quality"}} for each in said["alerts"][part * 100 : part * 100 + 100]
        ]
        assert (await client.post(f"{hook.path}/alertmanager", **hook.by_label_studio(said))).json()["state"] == "processed"
        starts += [each.workflow_id for each in looks.look(name).starts]
    assert len(set(starts)) == 1
    counted = senders.rows("select count(*), count(decision_id), count(distinct episode_id) from drift_event where model = :m", m=name)
    assert counted == [(1_000, 1_000, 1)]
    actions = "select outcome, workflow_id from retrain_decision where model = :m and outcome <> 'nothing'"
    assert senders.rows(actions, m=name) == [("train", starts[0])]


async def test_too_many_alerts_are_told_to_come_again(
    client: httpx.AsyncClient, app: FastAPI, senders: Senders, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.parts, "rates", Rates(0.1))
    monkeypatch.setattr(
        app.state.parts,
        "settings",
        app.state.parts.settings.model_copy(update={"gateway": app.state.parts.settings.gateway.model_copy(update={"hook_rate": 0.1})}),
    )
    hook = senders.hook(HookProvider.ALERTMANAGER)
    sent = [await client.post(f"{hook.path}/alertmanager", **hook.by_label_studio(notification(model, n))) for n in (1, 2)]
    assert [each.status_code for each in sent] == [202, 503]
    assert "retry-after" in sent[1].headers


def test_a_signal_goes_through_the_same_inbox(senders: Senders, model: str, kept: Any) -> None:
    rows, said = DeliveryRows(senders.database), event(model)
    assert [receive(rows, said).duplicate for _ in range(2)] == [False, True]
    assert kept() == (1, 1)
    for odd in (None, [], {"id": "1"}, said | {"subject": "model/nobody"}):
        assert receive(rows, odd).state == "quarantined"
    early = event(f"m{uuid4().hex[:8]}")
    waiting, world, name = receive(rows, early), World(senders.database), early["subject"].removeprefix("model/")
    world.model(world.run(name, spec=SPEC | {"name": name}), model=name)
    assert replay(AccessRows(senders.database), rows, waiting.hook, waiting.key).state == "processed"


async def test_nobody_sends_signals_by_http(client: httpx.AsyncClient, senders: Senders, model: str) -> None:
    delivery = receive(DeliveryRows(senders.database), event(model))
    assert (await client.post(f"/v1/hooks/{delivery.hook}", json=event(model))).status_code == 415
