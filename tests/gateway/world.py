"""Who calls the gateway in tests, and what they say."""

from __future__ import annotations

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from perdure import signing
from perdure.gateway.hooks import SIGNED, slack
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, CampaignRows
from perdure.metadata.tables import HookProvider

SPEC: dict[str, Any] = {"question": "How is it?", "choices": ["pos", "neg"], "gold": {"rate": 0}, "overlap": {"labels": 2, "most": 9}}
PAYLOADS = Path(__file__).parent / "payloads"
USUAL = ["campaign:write", "campaign:read", "label", "adjudicate", "promote:approve"]


class People:
    """Headers that prove who somebody is; their key is made when they first call."""

    def __init__(self, database: Database) -> None:
        self._rows, self._headers = AccessRows(database), dict[str, dict[str, str]]()

    def __call__(self, name: str, *scopes: str) -> dict[str, str]:
        known = f"{name} {scopes}"
        if known not in self._headers:
            self._headers[known] = {"Authorization": f"Bearer {self._rows.create_key(name, list(scopes) or USUAL)[1]}"}
        return self._headers[known]


class Hook:
    """A hook whose secrets are files."""

    def __init__(self, database: Database, folder: Path, provider: HookProvider, campaign: str | None) -> None:
        self.rows, self.folder = AccessRows(database), folder
        self.id, self.secret = f"h{uuid4().hex[:8]}", new_secret(provider)
        campaign_id = CampaignRows(database).named(campaign).id if campaign else None
        self.rows.create_hook(self.id, provider, campaign_id, self.keep(self.secret), "test")
        self.path = f"/v1/hooks/{self.id}"

    def keep(self, secret: str) -> str:
        path = self.folder / uuid4().hex
        path.write_text(secret)
        return f"file:{path}"

    def signed(self, body: Any, *, id: str | None = None, at: float | None = None, secret: str | None = None) -> dict[str, Any]:
        """Arguments of a request by Standard Webhooks."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        id, when = id or f"msg_{uuid4().hex}", str(int(at or time.time()))
        signature = signing.sign(secret or self.secret, id, when, content)
        headers = {"webhook-id": id, "webhook-timestamp": when, "webhook-signature": signature, "content-type": "application/json"}
        return {"content": content, "headers": headers}

    def by_slack(self, content: bytes, at: float | None = None) -> dict[str, Any]:
        """Arguments of a request by Slack."""
        when = str(int(at or time.time()))
        headers = {"x-slack-request-timestamp": when, "x-slack-signature": slack.sign(self.secret, when, content)}
        return {"content": content, "headers": {**headers, "content-type": "application/x-www-form-urlencoded"}}

    def by_label_studio(self, body: Any, secret: str | None = None) -> dict[str, Any]:
        """Arguments of a request by Label Studio."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return {"content": content, "headers": {"Authorization": f"Bearer {secret or self.secret}", "content-type": "application/json"}}


class Senders:
    """Makes hooks, and tells what came of their messages."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self._folder = database, folder

    def hook(self, provider: HookProvider = HookProvider.STANDARD, campaign: str | None = None) -> Hook:
        return Hook(self.database, self._folder, provider, campaign)

    def statuses(self, campaign: str) -> dict[str, list[str]]:
        """The answers of a campaign: statuses by task, in the order of their revisions."""
        found = self.rows(
            "select t.key, array_agg(a.status order by a.revision, a.event_time) from annotation a join task t on t.id = a.task_id"
            " join campaign c on c.id = a.campaign_id where c.name = :name group by 1 order by 1",
            name=campaign,
        )
        return {key: statuses for key, statuses in found}  # noqa: C416 (rows are tuples of any)

    def counted(self, campaign: str) -> dict[str, int]:
        """Valid answers by task; what the tasks' rows count is compared with what there is."""
        found = self.rows(
            "select t.key, t.n_valid, count(a.id) filter (where a.status = 'valid') from task t join campaign c on c.id = t.campaign_id"
            " left join annotation a on a.task_id = t.id where c.name = :name group by t.id order by 1",
            name=campaign,
        )
        assert all(counted == there for _, counted, there in found), found
        return {key: counted for key, counted, _ in found}

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.database.transaction() as session:
            return [tuple(row) for row in session.execute(text(query), values)]


def new_secret(provider: HookProvider) -> str:
    if provider in SIGNED:
        return signing.PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(16)


def payload(name: str) -> dict[str, Any]:
    """The body of a message that Label Studio sent."""
    body: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text())["body"]
    return body


def answers(*items: dict[str, Any]) -> dict[str, Any]:
    """A body by our own convention."""
    return {"type": "answers", "timestamp": "2026-11-22T12:00:00Z", "data": {"answers": list(items)}}
