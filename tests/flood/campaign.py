"""The campaign that is flooded: opened by HTTP, filled, sent to by many at once, and judged by its rows at the end."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import text

from perdure.config import Settings
from perdure.local import stack
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows
from perdure.metadata.tables import HookProvider
from tests.flood.attack import Attack
from tests.flood.deliveries import LABELERS, OPINIONS, Send, batch_body, label_studio_body, standard_body
from tests.gateway.world import Hook

SENDERS = 24
PATIENCE = 180.0  # seconds that one request is tried for


@dataclass
class Flooded:
    """What everybody needs to know of it."""

    name: str
    url: str
    settings: Settings
    keys: dict[str, str]
    hooks: dict[str, Hook]

    @classmethod
    def open(cls, home: Path, labels: int, seed: int) -> Self:
        """A campaign in which every task wants two opinions and is decided by whatever they are."""
        settings = Settings(home=home)
        name = f"flood-{seed}-{int(time.time())}"
        url = next(service.url for service in stack.status(home) if service.name == "gateway")
        with Database.open(settings) as database:
            rows = AccessRows(database)
            owner = rows.create_key("owner", ["campaign:write", "campaign:read"])[1]
            keys = {f"l{n}": rows.create_key(f"l{n}", ["label"])[1] for n in range(LABELERS)}
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {owner}"}, timeout=60) as client:
                spec = {"question": "?", "choices": ["pos", "neg"], "gold": {"rate": 0}}
                overlap = {"labels": OPINIONS, "most": OPINIONS, "agreement": 0.5}
                client.post("/v1/campaigns", json={"name": name, "spec": {**spec, "overlap": overlap}}).raise_for_status()
                lines = "".join(json.dumps({"key": f"t{n}", "payload": {"text": str(n)}}) + "\n" for n in range(labels // OPINIONS))
                headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "tasks"}
                client.post(f"/v1/campaigns/{name}/tasks:import", content=lines.encode(), headers=headers).raise_for_status()
            hooks = {
                provider.value: Hook(database, home, provider, name) for provider in (HookProvider.STANDARD, HookProvider.LABEL_STUDIO)
            }
        return cls(name, url, settings, keys | {"owner": owner}, hooks)

    async def send(self, sends: list[Send], attack: Attack) -> None:
        """Send everything, each until it is accepted; then go on with repeats while there is somebody left to kill."""
        queue = iter(sends)
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=limits) as client:

            async def sender() -> None:
                for send in queue:
                    await self._until_accepted(client, send)

            await asyncio.gather(*(sender() for _ in range(SENDERS)))
            while not attack.over:
                for send in sends[:200]:
                    await self._until_accepted(client, send)

    async def _until_accepted(self, client: httpx.AsyncClient, send: Send) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, f"{send.id} is not accepted"
            try:
                answer = await self._post(client, send)
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code in (200, 201, 202):
                self._check(send, answer.json())
                return
            assert answer.status_code in (500, 502, 503, 504) or answer.status_code == 429, answer.text
            assert answer.status_code != 500, answer.text
            await asyncio.sleep(0.1)

    async def _post(self, client: httpx.AsyncClient, send: Send) -> httpx.Response:
        if send.channel == "batch":
            headers = {"Authorization": f"Bearer {self.keys[send.sayings[0].labeler]}"}
            return await client.post(f"/v1/campaigns/{self.name}/answers", json=batch_body(send.sayings), headers=headers)
        hook = self.hooks[send.channel]
        if send.channel == "standard":
            return await client.post(hook.path, **hook.signed(standard_body(send.sayings[0]), id=send.id))
        return await client.post(hook.path, **hook.by_label_studio(label_studio_body(send.sayings[0])))

    def _check(self, send: Send, body: dict[str, Any]) -> None:
        if send.channel == "batch":
            assert all(result["status"] for result in body["results"]), body
        else:
            assert body["state"] == "processed" or any(each.deleted for each in send.sayings), body

    # --- judgement -----------------------------------------------------------------------------------------------------

    def judge(self, sends: list[Send]) -> dict[str, Any]:
        """Wait for the campaign's end, then compare rows with what was said."""
        said = {(s.labeler, s.task, _second(s.revision)): s for send in sends for s in send.sayings}
        gone = {(s.labeler, s.task) for s in said.values() if s.deleted}
        stand = {(s.labeler, s.task) for s in said.values()} - gone
        with Database.open(self.settings) as database:
            lag = self._settle(database, {task for _, task in stand})
            rows = _rows(
                database,
                "select l.principal, t.key, a.revision, a.status, a.value from annotation a join task t on t.id = a.task_id"
                " join labeler l on l.id = a.labeler_id join campaign c on c.id = a.campaign_id where c.name = :name",
                name=self.name,
            )
            found = {(who, task, _second(revision)): (status, value) for who, task, revision, status, value in rows}
            assert len(found) == len(rows), "an answer is there twice"
            lost, strange = set(said) - set(found), set(found) - set(said)
            assert not lost, f"{len(lost)} are lost: {sorted(lost)[:3]}"
            assert not strange, f"{len(strange)} come from nowhere: {sorted(strange)[:3]}"
            valid = [(who, task) for (who, task, _), (status, _) in found.items() if status == "valid"]
            assert len(valid) == len(set(valid)), "somebody counts twice on one task"
            assert set(valid) == stand, f"do not count: {len(stand - set(valid))}, count though taken back: {len(set(valid) - stand)}"
            for (who, task, revision), (status, value) in found.items():
                assert status != "valid" or value == said[who, task, revision].value
            counted = _rows(
                database,
                "select sum(t.n_valid), sum((select count(*) from annotation a where a.task_id = t.id and a.status = 'valid'))"
                " from task t join campaign c on c.id = t.campaign_id where c.name = :name",
                name=self.name,
            )[0]
            assert counted[0] == counted[1] == len(valid)
            statuses = _rows(
                database,
                "select status, count(*) from annotation a join campaign c on c.id = a.campaign_id where c.name = :name group by 1",
                name=self.name,
            )
        return {"valid": len(valid), "statuses": dict(statuses), "seconds_to_settle": round(lag, 1)}  # type: ignore[arg-type]

    def _settle(self, database: Database, answered: set[str]) -> float:
        """Seconds until the workflow has decided every task with two opinions."""
        began = time.monotonic()
        query = "select count(*) filter (where t.state = 'full') from task t join campaign c on c.id = t.campaign_id where c.name = :name"
        while _rows(database, query, name=self.name)[0][0]:
            assert time.monotonic() - began < 120, "full tasks are not decided"
            time.sleep(0.1)
        return time.monotonic() - began


def _second(revision: str) -> str:
    """A revision without its way of writing fractions."""
    return revision[:19] if revision != "deleted" else revision


def _rows(database: Database, query: str, **values: Any) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(query), values)]
