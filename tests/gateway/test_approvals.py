"""Votes through HTTP and by buttons in Slack: proven names, bound to evidence, so that quorums can be reached."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from perdure.keys import identity
from perdure.metadata.database import Database
from perdure.metadata.tables import HookProvider
from perdure.ports import Promotion
from tests.gateway.world import People, Senders
from tests.metadata.world import SPEC, World

_runs = itertools.count()


class Asked:
    """An approval that waits for votes."""

    def __init__(self, database: Database, required: int = 1, approvers: tuple[str, ...] = ()) -> None:
        world = World(database)
        policy = {"approval": {"approvers": list(approvers), "cli": True}}
        self.promotion: Promotion = world.promotion(
            world.run(f"vote{next(_runs)}", spec={**SPEC, "promote": policy}, requested_by="ann"), required=required
        )
        self.id, self.evidence = identity(self.promotion.id, "approval"), self.promotion.evaluation.evidence_sha256
        self.path = f"/v1/approvals/{self.id}/decision"

    def says(self, decision: str = "approve", **other: Any) -> dict[str, Any]:
        return {"decision": decision, "reason": "looked at it", "evidence_sha256": self.evidence, **other}


async def test_two_people_reach_a_quorum(client: httpx.AsyncClient, people: People, senders: Senders) -> None:
    asked = Asked(senders.database, required=2)
    listed = (await client.get("/v1/approvals", headers=people("ada"))).json()["approvals"]
    mine = next(each for each in listed if each["id"] == str(asked.id))
    assert (mine["required"], mine["evidence_sha256"], mine["votes"]) == (2, asked.evidence, [])
    assert mine["metrics"]
    assert mine["gates"]
    twice = await asyncio.gather(*(client.post(asked.path, json=asked.says(), headers=people("ada")) for _ in range(2)))  # a double click
    assert [(each.status_code, each.json()["approvals"]) for each in twice] == [(200, 1), (200, 1)]
    second = await client.post(asked.path, json=asked.says(), headers={**people("bob"), "Idempotency-Key": "b"})
    votes = {"approvals": 2, "rejections": 0, "required": 2, "approved_by": ["ada", "bob"], "rejected_by": [], "refused": ""}
    assert second.json() == votes
    again = await client.post(asked.path, json=asked.says(), headers={**people("bob"), "Idempotency-Key": "b"})
    assert again.headers["idempotency-replayed"] == "true"
    assert (await client.post(asked.path, json=asked.says(), headers=people("eve"))).status_code == 409  # decided
    workflow = f"promote/{mine['model']}/{mine['version']}"
    assert senders.rows("select count(*) > 0 from outbox where topic = 'poke' and target = :id", id=workflow) == [(True,)]
    assert senders.rows("select channel from approval_vote where approval_id = :id", id=asked.id) == [("http",)] * 2


async def test_who_may_not_and_what_has_changed(client: httpx.AsyncClient, people: People, senders: Senders) -> None:
    asked = Asked(senders.database, approvers=("ada", "ann"))
    for who, said, status in (
        (people("eve"), asked.says(), 409),  # no approver
        (people("ada", "label"), asked.says(), 403),  # no scope
        (people("ann"), asked.says(), 403),  # asked for it
        (people("ada"), asked.says(evidence_sha256="0" * 64), 412),
        (people("ada"), asked.says(decision="maybe"), 422),
        (people("ada"), asked.says("reject"), 200),
        (people("ada"), asked.says("approve"), 409),  # has said otherwise
    ):
        response = await client.post(asked.path, json=said, headers=who)
        assert response.status_code == status, response.text
    nowhere = await client.post(f"/v1/approvals/{uuid4()}/decision", json=asked.says(), headers=people("ada"))
    assert nowhere.status_code == 404


def pressed(asked: Asked, action: str = "approve", user: str = "U1", **other: Any) -> bytes:
    button = {"action_id": action, "action_ts": "1790000000.1", "value": f"{asked.id}:{asked.evidence}", **other}
    payload = {"type": "block_actions", "user": {"id": user}, "actions": [button], "response_url": "https://hooks.example/x", "token": "t"}
    return urlencode({"payload": json.dumps(payload)}).encode()


async def test_a_button_in_slack_votes_once(client: httpx.AsyncClient, senders: Senders) -> None:
    hook, asked = senders.hook(HookProvider.SLACK), Asked(senders.database, required=2, approvers=("slack:U1", "slack:U2"))
    for user in ("U1", "U1", "U2"):
        response = await client.post(hook.path, **hook.by_slack(pressed(asked, user=user)))
        assert (response.status_code, response.json()["state"]) == (200, "processed"), response.text
    votes = senders.rows("select actor, decision, channel from approval_vote where approval_id = :id order by 1", id=asked.id)
    assert votes == [("slack:U1", "approve", "slack"), ("slack:U2", "approve", "slack")]
    kept = b"".join(bytes(body) for (body,) in senders.rows("select body from delivery where hook_id = :id", id=hook.id))
    assert b"hooks.example" not in kept


@pytest.mark.parametrize("odd", [{"action_id": "explode"}, {"value": "x"}, {"value": f"{uuid4()}:{'0' * 64}"}])
async def test_a_button_that_cannot_count_is_quarantined(client: httpx.AsyncClient, senders: Senders, odd: dict[str, str]) -> None:
    hook, asked = senders.hook(HookProvider.SLACK), Asked(senders.database, approvers=("slack:U1",))
    response = await client.post(hook.path, **hook.by_slack(pressed(asked, **odd)))
    assert (response.status_code, response.json()["state"]) == (200, "quarantined")
    assert (await client.post(hook.path, **hook.by_slack(pressed(asked), at=1_000))).status_code == 401
    other = {**hook.by_slack(pressed(asked)), "content": pressed(asked, "reject")}
    assert (await client.post(hook.path, **other)).status_code == 401
    assert senders.rows("select 1 from approval_vote where approval_id = :id", id=asked.id) == []


async def test_a_stranger_in_slack_decides_nothing_where_nobody_is_named(client: httpx.AsyncClient, senders: Senders) -> None:
    hook, asked = senders.hook(HookProvider.SLACK), Asked(senders.database)
    told = (await client.post(hook.path, **hook.by_slack(pressed(asked)))).json()
    assert told["state"] == "quarantined"
    assert "names no approvers" in told["error"]
    assert senders.rows("select 1 from approval_vote where approval_id = :id", id=asked.id) == []
