"""Campaigns, leases and answers through HTTP: who may, what is told, and what repeats."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from perdure.config import Settings
from perdure.gateway.app import make_app
from perdure.gateway.parts import Parts
from perdure.labeling.ports import NewTask
from perdure.messages.labeling import TaskState
from perdure.metadata.repository import AccessRows, CampaignRows
from perdure.temporal import connect
from tests.gateway.world import SPEC, People, Senders

Client = httpx.AsyncClient


async def test_only_a_good_key_with_the_scope_opens(client: Client, people: People, campaign: str, app: FastAPI, senders: Senders) -> None:
    path = f"/v1/campaigns/{campaign}"
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer pdr_x"},
        {"Authorization": "Basic eA=="},
        {b"Authorization": b"Bearer \xe9"},
    ):
        response = await client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["type"] == "AccessDenied"
    assert (await client.get(path, headers=people("eve", "label"))).status_code == 403
    assert (await client.get(path, headers=people("root", "admin"))).status_code == 200
    rows, parts = AccessRows(senders.database), app.state.parts
    key, secret = rows.create_key("soon.gone", ["campaign:read"])
    over, expired = rows.create_key("over", ["campaign:read"], datetime.now(UTC) - timedelta(seconds=1))
    assert (await client.get(path, headers={"Authorization": f"Bearer {expired}"})).status_code == 401
    mine = {"Authorization": f"Bearer {secret}"}
    assert (await client.get(path, headers=mine)).status_code == 200
    rows.revoke_key(key.id)
    parts.keys._seconds = 0.0  # seconds later
    try:
        assert (await client.get(path, headers=mine)).status_code == 401
    finally:
        parts.keys._seconds = 3.0
    assert senders.rows("select 1 from api_key where key_sha256 = :secret", secret=secret) == []
    assert over.opens(datetime.now(UTC)) is False
    assert (await client.get("/healthz")).json() == {"status": "ok"}


def test_every_route_but_health_and_hooks_wants_a_key(app: FastAPI) -> None:
    described = app.openapi()["paths"]
    open_to_all = {path for path, methods in described.items() for method in methods.values() if not method.get("security")}
    assert open_to_all == {"/healthz", "/v1/hooks/{hook}", "/v1/hooks/{hook}/alertmanager"}
    assert len(described) > 20


async def test_a_campaign_is_opened_once(client: Client, people: People, migrated: Settings) -> None:
    name, owner = f"c{uuid4().hex[:8]}", people("owner")
    body = {"name": name, "spec": SPEC}
    first = await client.post("/v1/campaigns", json=body, headers={**owner, "Idempotency-Key": name})
    assert first.status_code == 201, first.text
    again = await client.post("/v1/campaigns", json=body, headers={**owner, "Idempotency-Key": name})
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, first.json(), "true")
    assert (await client.post("/v1/campaigns", json=body, headers=owner)).status_code == 200
    other = {"name": name, "spec": {**SPEC, "question": "Another one?"}}
    refused = await client.post("/v1/campaigns", json=other, headers={**owner, "Idempotency-Key": name})
    assert (refused.status_code, refused.json()["field"]) == (422, "Idempotency-Key")
    assert (await client.post("/v1/campaigns", json=other, headers=owner)).status_code == 409
    handle = (await connect(migrated)).get_workflow_handle(f"campaign/{name}")
    assert (await handle.describe()).workflow_type == "LabelingCampaign"
    await handle.terminate()
    shown = await client.get(f"/v1/campaigns/{name}", headers=owner)
    assert (shown.json()["id"], shown.json()["requested_by"]) == (first.json()["id"], "owner")
    same = await client.get(f"/v1/campaigns/{name}", headers={**owner, "If-None-Match": shown.headers["etag"]})
    assert same.status_code == 304
    assert name in [each["name"] for each in (await client.get("/v1/campaigns", headers=owner)).json()["campaigns"]]


async def test_mistakes_are_named(client: Client, people: People, campaign: str) -> None:
    owner = people("owner")
    wrong = {"name": "x", "spec": {"question": "", "choices": ["a", "a"], "surprise": 1}}
    response = await client.post("/v1/campaigns", json=wrong, headers=owner)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert {"spec.question", "spec.surprise"} <= {each["field"] for each in response.json()["errors"]}
    for content in (b"{", b"\xff", b"[" * 200_000, b'{"max": ' + b"9" * 5_000 + b"}"):
        response = await client.post(
            f"/v1/campaigns/{campaign}/lease", content=content, headers={**owner, "content-type": "application/json"}
        )
        assert response.status_code == 400, content[:20]
        assert response.json()["type"] == "InvalidInput"
    half = await client.post(
        f"/v1/campaigns/{campaign}/lease", content=rb'{"\ud800": 1}', headers={**owner, "content-type": "application/json"}
    )
    assert half.status_code == 422
    for path in ("/v1/nothing", "/v1/campaigns/none", f"/v1/campaigns/{uuid4()}", "/v1/campaigns/%00", f"/v1/campaigns/{uuid4()}/progress"):
        assert (await client.get(path, headers=owner)).status_code == 404
    assert (await client.post(f"/v1/campaigns/{uuid4()}/lease", json={}, headers=owner)).status_code == 404
    assert (
        await client.post(f"/v1/campaigns/{uuid4()}/answers", json={"answers": [{"task": "t", "value": 1, "key": "k"}]}, headers=owner)
    ).status_code == 404
    assert (await client.delete("/v1/campaigns", headers=owner)).status_code == 405


async def test_tasks_are_imported_by_lines_all_or_none(
    client: Client, people: People, campaign: str, senders: Senders, app: FastAPI, migrated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, path = people("owner"), f"/v1/campaigns/{campaign}/tasks:import"
    lines = b"".join(json.dumps({"key": f"n{n}", "payload": {"text": "x" * 100}}).encode() + b"\n" for n in range(2_500))

    async def chunks() -> Any:
        for start in range(0, len(lines), 7_001):
            yield lines[start : start + 7_001]

    headers = {**owner, "content-type": "application/x-ndjson"}
    first = await client.post(path, content=chunks(), headers=headers)
    assert (first.status_code, first.json()["tasks"], first.json()["added"]) == (202, 2_500, 2_500), first.text
    again = await client.post(path, content=chunks(), headers=headers)
    assert again.json() == {**first.json(), "added": 0}
    named = {**headers, "Idempotency-Key": uuid4().hex}
    one = [await client.post(path, content=b'{"key": "k0", "payload": {}}', headers=named) for _ in range(2)]
    assert [(each.json()["added"], each.headers.get("Idempotency-Replayed")) for each in one] == [(1, None), (1, "true")]
    assert (await client.post(path, content=b'{"key": "k1", "payload": {}}', headers=named)).status_code == 422
    wrong = await client.post(path, content=lines.replace(b'"n', b'"m') + b'\n{"key": "b"}\n', headers=headers)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "tasks")
    assert "line 2,502" in wrong.json()["detail"]
    there = senders.rows("select count(*) from task join campaign c on c.id = campaign_id where c.name = :name", name=campaign)
    assert there == [(2_505,)]  # none of the wrong import, nor of another one under the same key
    assert (await client.post(path, content=b"x" * 3_000_000, headers=headers)).status_code == 413
    small = migrated.gateway.model_copy(update={"max_import": 100_000})
    monkeypatch.setattr(app.state.parts, "settings", migrated.model_copy(update={"gateway": small}))
    more = await client.post(path, content=chunks(), headers=headers)
    assert (more.status_code, "100,000 bytes" in more.json()["detail"]) == (413, True)
    assert (await client.post(path, content=b"x", headers={**owner, "content-type": "text/csv"})).status_code == 415


async def test_long_lines_are_stored_before_many_are_read(
    client: Client, people: People, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, put = [], CampaignRows._insert_tasks

    def counted(self: CampaignRows, session: Any, id: Any, tasks: list[NewTask]) -> int:
        batches.append(len(tasks))
        return put(self, session, id, tasks)

    monkeypatch.setattr(CampaignRows, "_insert_tasks", counted)
    lines = b"".join(json.dumps({"key": f"n{n}", "payload": {"text": "x" * 200_000}}).encode() + b"\n" for n in range(25))
    headers = {**people("owner"), "content-type": "application/x-ndjson"}
    response = await client.post(f"/v1/campaigns/{campaign}/tasks:import", content=lines, headers=headers)
    assert (response.status_code, response.json()["added"], batches) == (202, 25, [21, 4]), response.text


async def test_a_manifest_waits_for_the_workflow(client: Client, people: People, campaign: str, senders: Senders) -> None:
    owner, path = people("owner"), f"/v1/campaigns/{campaign}/tasks:import"
    manifest = {"uri": "s3://perdure/tasks", "sha256": "ab" * 32}
    first, again = [await client.post(path, json=manifest, headers=owner) for _ in range(2)]
    assert (first.status_code, again.json()) == (202, first.json())
    rows = CampaignRows(senders.database)
    assert [ref.uri for ref in rows.tick(rows.named(campaign).id).imports] == ["s3://perdure/tasks"]
    assert (await client.post(path, json={"uri": "file:///x", "sha256": "1"}, headers=owner)).status_code == 422


async def leased(client: Client, headers: dict[str, str], campaign: str, most: int = 1) -> list[dict[str, Any]]:
    response = await client.post(f"/v1/campaigns/{campaign}/lease", json={"max": most}, headers=headers)
    assert response.status_code in (200, 204), response.text
    found: list[dict[str, Any]] = response.json()["leases"] if response.status_code == 200 else []
    return found


async def test_work_from_lease_to_answer(client: Client, people: People, campaign: str, senders: Senders) -> None:
    ada, bob = people("ada"), people("bob")
    first, second, third = await leased(client, ada, campaign, 3)
    path, token = f"/v1/assignments/{first['assignment_id']}", {"lease_token": first["lease_token"]}
    held = await client.post(f"{path}/heartbeat", json=token, headers=ada)
    assert held.json()["expires_at"] > first["expires_at"]
    assert (await client.post(f"{path}/submit", json={**token, "value": "pos"}, headers=bob)).status_code == 403
    wrong = await client.post(f"{path}/submit", json={**token, "value": "eggs"}, headers=ada)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "value")
    done = await client.post(f"{path}/submit", json={**token, "value": "pos"}, headers=ada)
    assert (done.status_code, done.json()["status"]) == (201, "valid")
    again = await client.post(f"{path}/submit", json={**token, "value": "pos"}, headers=ada)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    changed = await client.post(f"{path}/submit", json={**token, "value": "neg"}, headers={**ada, "Idempotency-Key": "changed"})
    assert (changed.status_code, changed.json()["status"]) == (201, "valid")
    lost = await client.post(f"{path}/heartbeat", json=token, headers=ada)
    assert (lost.status_code, lost.json()["type"]) == (409, "LeaseLost")
    path, token = f"/v1/assignments/{second['assignment_id']}", {"lease_token": second["lease_token"]}
    skipped = await client.post(f"{path}/skip", json={**token, "reason": "ambiguous"}, headers=ada)
    assert (skipped.status_code, skipped.json()["status"]) == (201, "skipped")
    path, token = f"/v1/assignments/{third['assignment_id']}", {"lease_token": third["lease_token"]}
    assert (await client.post(f"{path}/release", json=token, headers=ada)).status_code == 204
    gone = await client.post(f"{path}/submit", json={**token, "value": "pos"}, headers=ada)
    assert (gone.status_code, gone.json()["type"]) == (409, "LeaseLost")
    assert senders.statuses(campaign) == {first["task"]: ["superseded", "valid"], second["task"]: ["skipped"]}
    progress = (await client.get(f"/v1/campaigns/{campaign}/progress", headers=ada)).json()
    assert progress["annotations"] == {"skipped": 1, "superseded": 1, "valid": 1}
    assert [(each["principal"], each["answers"]) for each in progress["labelers"]] == [("ada", 3)]


async def test_fifty_people_and_ten_tasks(client: Client, people: People, campaign: str, senders: Senders) -> None:
    rows = CampaignRows(senders.database)
    name = f"c{uuid4().hex[:8]}"
    row = rows.open(name, {**SPEC, "overlap": {"labels": 1}}, f"campaign/{name}", "owner")
    rows.put_tasks(row.id, [NewTask(key=f"t{n}", payload={}) for n in range(10)])
    everybody = [people(f"l{n}", "label") for n in range(50)]
    found = [each for leases in await asyncio.gather(*(leased(client, who, name, 2) for who in everybody)) for each in leases]
    found += await leased(client, people("last"), name, 10)
    assert len(found) == 10
    assert len({each["task"] for each in found}) == 10


async def test_many_at_once_are_committed_together(client: Client, people: People, campaign: str, senders: Senders, app: FastAPI) -> None:
    parts: Parts = app.state.parts
    calls, accept = [], parts.labels.accept
    parts.labels.accept = lambda campaign, items: calls.append(len(items)) or accept(campaign, items)  # type: ignore[method-assign,func-returns-value]
    names = [f"p{n}" for n in range(20)]
    try:
        work = [(people(name, "label"), each) for name in names for each in await leased(client, people(name, "label"), campaign)]
        sent = [
            client.post(
                f"/v1/assignments/{each['assignment_id']}/submit", json={"lease_token": each["lease_token"], "value": "pos"}, headers=who
            )
            for who, each in work * 2
        ]
        responses = await asyncio.gather(*sent)
    finally:
        del parts.labels.accept
    assert sorted(response.status_code for response in responses) == [200] * len(work) + [201] * len(work)
    assert sum(calls) == 2 * len(work)
    assert len(calls) < len(work)
    assert sum(senders.counted(campaign).values()) == len(work)


async def test_a_batch_tells_of_each(client: Client, people: People, campaign: str, senders: Senders) -> None:
    ada, path = people("ada"), f"/v1/campaigns/{campaign}/answers"
    items = [
        {"task": "t0", "value": "pos", "key": "a"},
        {"task": "t1", "skip": True, "key": "b"},
        {"task": "none", "value": "pos", "key": "c"},
        {"task": "t2", "value": "eggs", "key": "d"},
    ]
    first = (await client.post(path, json={"answers": items}, headers=ada)).json()["results"]
    assert [each["status"] for each in first] == ["valid", "skipped", None, None]
    assert all(each["error"] for each in first[2:])
    again = (await client.post(path, json={"answers": items[:2]}, headers=ada)).json()["results"]
    assert [each["duplicate"] for each in again] == [True, True]
    late = {"task": "t0", "value": "neg", "key": "a", "revision": "2"}
    back = {"task": "t1", "deleted": True, "key": "b"}
    changed = (await client.post(path, json={"answers": [late, back]}, headers=ada)).json()["results"]
    assert [each["status"] for each in changed] == ["valid", "deleted"]
    nameless = {"answers": [{"task": "t3", "value": "pos"}]}
    refused = await client.post(path, json=nameless, headers=ada)
    assert (refused.status_code, refused.json()["field"]) == (422, "answers.0.key")
    for duplicate in (False, True):
        named = await client.post(path, json=nameless, headers={**ada, "Idempotency-Key": "batch-1"})
        assert named.json()["results"] == [{"task": "t3", "status": "valid", "duplicate": duplicate, "error": None}]
    for odd in (
        {"revision": "deleted"},
        {"revision": "a/b"},
        {"task": "a\x00"},
        {"value": True},
        {"value": [1]},
        {"key": "\n"},
        {"duration_ms": 2**31},
    ):
        assert (await client.post(path, json={"answers": [{**items[0], **odd}]}, headers=ada)).status_code == 422, odd
    assert (await client.post(path, json={"answers": items[:1] * 101}, headers=ada)).status_code == 422
    assert senders.counted(campaign) == {"t0": 1, "t1": 0, "t2": 0, "t3": 1}


async def test_commands_are_rows_and_pokes(client: Client, people: People, campaign: str, senders: Senders) -> None:
    owner, path = people("owner"), f"/v1/campaigns/{campaign}"
    pause = await client.post(
        f"{path}/pause", json={"reason": "lunch", "expected_version": 1}, headers={**owner, "Idempotency-Key": f"{campaign}1"}
    )
    assert (pause.status_code, pause.json()["state"], pause.json()["version"]) == (200, "paused", 2), pause.text
    again = await client.post(
        f"{path}/pause", json={"reason": "lunch", "expected_version": 1}, headers={**owner, "Idempotency-Key": f"{campaign}1"}
    )
    assert again.json() == pause.json()
    assert (await leased(client, owner, campaign)) == []
    assert (await client.post(f"{path}/resume", json={"expected_version": 1}, headers=owner)).status_code == 409
    assert (await client.post(f"{path}/resume", json={"expected_version": 2}, headers=owner)).json()["state"] == "open"
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert (await client.post(f"{path}/extend", json={"deadline": later}, headers=owner)).json()["deadline"]
    assert (await client.post(f"{path}/extend", json={"deadline": "2020-01-01T00:00:00"}, headers=owner)).status_code == 422
    assert (await client.post(f"{path}/close", json={"reason": "enough"}, headers=owner)).status_code == 202
    pokes = senders.rows("select count(*) from outbox where target = :id and topic = 'poke'", id=f"campaign/{campaign}")
    assert pokes[0][0] >= 4
    rows = CampaignRows(senders.database)
    assert rows.tick(rows.named(campaign).id).over == "enough"


async def test_what_comes_after_the_end_is_kept_and_said_to_be_late(
    client: Client, people: People, campaign: str, senders: Senders
) -> None:
    ada, rows = people("ada"), CampaignRows(senders.database)
    (one,) = await leased(client, ada, campaign)
    rows.close(rows.named(campaign).id, "enough")
    path, said = f"/v1/assignments/{one['assignment_id']}/submit", {"lease_token": one["lease_token"], "value": "pos"}
    late = await client.post(path, json=said, headers=ada)
    assert (late.status_code, late.json()["type"]) == (410, "Conflict")
    assert senders.statuses(campaign) == {one["task"]: ["late"]}
    assert (await client.post(f"/v1/campaigns/{campaign}/pause", json={}, headers=ada)).status_code == 409


async def test_disputes_are_settled_by_somebody_else(client: Client, people: People, senders: Senders) -> None:
    rows, name = CampaignRows(senders.database), f"c{uuid4().hex[:8]}"
    row = rows.open(name, {**SPEC, "overlap": {"labels": 2, "most": 2}}, f"campaign/{name}", "owner")
    rows.put_tasks(row.id, [NewTask(key="t0", payload={"text": "x"})])
    for who, value in (("ada", "pos"), ("bob", "neg")):
        answer = {"answers": [{"task": "t0", "value": value, "key": "k"}]}
        await client.post(f"/v1/campaigns/{name}/answers", json=answer, headers=people(who))
    rows.tick(row.id)
    judged = {"value": "pos", "reason": "friendly"}
    eve = people("eve2", "adjudicate", "campaign:read")
    assert (await client.post("/v1/tasks/t0/adjudicate", json=judged, headers=eve)).status_code == 422
    named = {**judged, "campaign": name}
    assert (await client.post("/v1/tasks/t0/adjudicate", json=named, headers=people("ada"))).status_code == 409
    assert (await client.post("/v1/tasks/none/adjudicate", json=named, headers=eve)).status_code == 404
    done = await client.post("/v1/tasks/t0/adjudicate", json=named, headers={**eve, "Idempotency-Key": name})
    assert (done.status_code, done.json()) == (201, {"task": "t0", "label": "pos"})
    again = await client.post("/v1/tasks/t0/adjudicate", json=named, headers={**eve, "Idempotency-Key": name})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    exported = await client.get(f"/v1/campaigns/{name}/export", headers=eve)
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [(line["key"], line["label"], line["decided_by"], len(line["opinions"])) for line in lines] == [("t0", "pos", "eve2", 2)]
    assert (await client.get(f"/v1/campaigns/{name}/export?snapshot=latest", headers=eve)).status_code == 404
    assert senders.rows("select state from task where campaign_id = :id", id=row.id) == [(TaskState.DECIDED,)]


async def test_without_postgres_or_temporal_it_says_so(migrated: Settings, people: People, campaign: str) -> None:
    away = migrated.postgres.model_copy(update={"url": "postgresql+psycopg://perdure@127.0.0.1:1/none"})
    nowhere = migrated.temporal.model_copy(update={"address": "127.0.0.1:1"})
    for update, path, status in (
        ({"postgres": away}, "/v1/campaigns", 503),
        ({"temporal": nowhere}, "/v1/campaigns", 503),
    ):
        app = make_app(migrated.model_copy(update=update))
        async with app.router.lifespan_context(app), Client(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            response = await client.post(path, json={"name": f"x{uuid4().hex[:6]}", "spec": SPEC}, headers=people("owner"))
            assert response.status_code == status
            assert response.headers["retry-after"]
            assert response.json()["type"] in ("StoreUnavailable", "TemporalUnavailable")


async def test_a_route_that_is_called_for_every_label_refuses_as_any_other(client: httpx.AsyncClient, people: People) -> None:
    """What fits is taken without FastAPI; what does not is told by it. With a charset everything goes by FastAPI."""
    path, good = f"/v1/assignments/{uuid4()}/submit", {"lease_token": str(uuid4()), "value": "pos"}
    asked: list[tuple[str, Any, dict[str, str], int, str | None]] = [
        (path, good, {}, 409, "lease_token"),
        (path, {**good, "value": None}, {}, 422, "value.str"),
        (path, {**good, "more": 1}, {}, 422, "more"),
        ("/v1/assignments/a/submit", good, {}, 422, "assignment"),
        (path, good, {"Idempotency-Key": "a key"}, 422, "Idempotency-Key"),
    ]
    for where, body, headers, status, field in asked:
        told = []
        for media in ("application/json", "application/json; charset=utf-8"):
            sent = {**people("ada"), **headers, "Content-Type": media}
            response = await client.post(where, content=json.dumps(body), headers=sent)
            told.append((response.status_code, response.json()))
        assert told[0] == told[1]
        assert (told[0][0], told[0][1]["field"]) == (status, field)
    broken = await client.post(path, content=b"{", headers={**people("ada"), "Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["type"]) == (400, "InvalidInput")
    assert (await client.post(path, json=good)).status_code == 401
    assert (await client.get(path, headers=people("ada"))).status_code == 405


@pytest.mark.parametrize("waiting", [5])
async def test_more_than_can_be_stored_is_refused(waiting: int) -> None:
    from perdure.errors import InvalidInput, StoreUnavailable
    from perdure.gateway.together import Together

    gate = asyncio.Event()

    async def work(items: list[int]) -> list[int]:
        await gate.wait()
        if -1 in items:
            raise InvalidInput("one of them is wrong")
        if -2 in items:
            raise StoreUnavailable("away")
        return [item * 2 for item in items]

    idle = asyncio.Event()
    together = Together(work, waiting=waiting, idle=idle.set)
    calls = [asyncio.create_task(together([n, n])) for n in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await together([3, 3])
    gate.set()
    assert await asyncio.gather(*calls) == [[2, 2], [4, 4]]
    mixed = [asyncio.create_task(together([n])) for n in (1, -1, 3)]
    results = await asyncio.gather(*mixed, return_exceptions=True)
    assert [type(each) for each in results] == [list, InvalidInput, list]
    lost = await asyncio.gather(*[asyncio.create_task(together([n])) for n in (1, -2)], return_exceptions=True)
    assert [type(each) for each in lost] == [StoreUnavailable, StoreUnavailable]
    await asyncio.wait_for(idle.wait(), 1)
