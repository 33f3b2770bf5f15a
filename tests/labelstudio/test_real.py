"""Against a real Label Studio, a real gateway, Temporal, Postgres and S3: `make test-labelstudio`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from temporalio.client import Client

from perdure.activities import labelstudio as activities
from perdure.adapters.labelstudio import LabelStudioServer
from perdure.config import GatewaySettings, LabelStudioSettings, Settings
from perdure.errors import AccessDenied, NotFound
from perdure.labeling.labelstudio.messages import KEPT
from perdure.labeling.labelstudio.ports import Changed
from perdure.messages.labeling import Reconciled, TasksSent
from perdure.metadata.database import Database
from perdure.workflows import labelstudio as workflow
from perdure.workflows import policies
from tests.gateway.serving import Process
from tests.gateway.world import Senders
from tests.labelstudio.conftest import Place
from tests.labelstudio.fake import LEGACY
from tests.labelstudio.running import Campaign
from tests.labelstudio.server import Server, running
from tests.servers import Stack

pytestmark = pytest.mark.labelstudio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("label-studio")) as found:
        yield found


@pytest.fixture(scope="module")
def personal(server: Server) -> str:
    """A personal access token."""
    return str(server.call("POST", "/api/token/")["token"])


@pytest.fixture
def there(server: Server, database: Database, tmp_path: Path) -> Iterator[Place]:
    """A campaign that is shown on the real server; its hook leads to where no gateway is."""
    (tmp_path / "token").write_text(LEGACY)
    (tmp_path / "secret").write_text("s3cret of tests")
    settings = LabelStudioSettings(url=server.address, token=f"file:{tmp_path / 'token'}", secret=f"file:{tmp_path / 'secret'}")
    with Clients() as clients:
        yield Place(database, Senders(database, tmp_path), None, clients, settings)  # type: ignore[arg-type]


class Clients:
    """Makes clients; the gateway's address may be set later."""

    def __init__(self) -> None:
        self.gateway, self._made = "http://127.0.0.1:9", list[LabelStudioServer]()

    def __call__(self, settings: LabelStudioSettings) -> LabelStudioServer:
        self._made.append(LabelStudioServer(settings, GatewaySettings(url=self.gateway)))
        return self._made[-1]

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._made:
            each.close()


def project(place: Place) -> int:
    return int(place.senders.rows("select project from external_project where campaign_id = :id", id=place.id)[0][0])


def senders(place: Place) -> list[str]:
    """Who told of what is known: the hook, or we ourselves."""
    rows = place.senders.rows("select headers->>'user-agent' from delivery where hook_id = :h order by received_at", h=f"ls-{place.id.hex}")
    return [name.partition("/")[0] for (name,) in rows]


@pytest.fixture
def gateway(stack: Stack, settings: Settings, there: Place) -> Iterator[Process]:
    process = Process(stack, settings)
    there.servers.gateway = process.url  # type: ignore[attr-defined]
    yield process
    process.end()


@pytest.fixture
def campaign(there: Place, settings: Settings, client: Client) -> Campaign:
    return Campaign(there, settings, client)


@pytest.mark.parametrize("token", ["legacy", "personal"])
async def test_from_start_to_snapshot(
    token: str, there: Place, personal: str, server: Server, campaign: Campaign, gateway: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer by hook, one whose hook is lost, one that is deleted while nobody listens; then the end, and the right labels."""
    monkeypatch.setattr(policies, "TICK_EVERY", 0.05)
    monkeypatch.setattr(workflow, "RECONCILE_EVERY", timedelta(seconds=1))
    monkeypatch.setattr(workflow, "AWAY", timedelta(seconds=1))
    if token == "personal":
        Path(str(there.settings.token).removeprefix("file:")).write_text(personal)
    async with campaign.running(tasks=4, patience=60, predictions={"show": True, "blind": 0}):
        await campaign.until(lambda: len(server.tasks(project(there))) == 4)
        tasks = server.tasks(project(there))
        [hook] = server.call("GET", "/api/webhooks/", params={"project": project(there)})
        assert hook["url"] == f"{gateway.url}/v1/hooks/ls-{there.id.hex}"

        with monkeypatch.context() as nobody_looks:
            nobody_looks.setattr(LabelStudioServer, "changed", lambda self, *_: Changed(tasks=[], at=datetime(2026, 1, 1, tzinfo=UTC)))
            server.annotate(tasks["t0"], "pos")
            await campaign.until(lambda: "t0" in there.statuses())
            skipped = server.annotate(tasks["t1"], "neg", was_cancelled=True)
            await campaign.until(lambda: there.statuses().get("t1") == ["skipped"])
            server.call("PATCH", f"/api/annotations/{skipped}/", json={"was_cancelled": False})
            await campaign.until(lambda: there.statuses().get("t1") == ["superseded", "valid"])
        assert senders(there) == ["python-requests"] * 3, "all by hook"

        gateway.end()
        gone = server.annotate(tasks["t2"], "neg")
        await campaign.until(lambda: there.statuses().get("t2") == ["valid"])
        assert senders(there)[3:] == ["perdure"]

        server.delete(gone)
        server.annotate(tasks["t3"], "maybe")
        await campaign.until(lambda: ("quarantined", "t3: the answer must be one of: pos, neg") in there.deliveries())
        server.annotate(tasks["t3"], "neg")
        await campaign.until(lambda: there.statuses()["t2"] == ["deleted", "deleted"])  # all had labels: it was about to end
        assert there.campaigns.named(there.name).closed_at is None
        server.annotate(tasks["t2"], "pos")
        labels, result = await campaign.labels()
    assert labels == {"t0": "pos", "t1": "neg", "t2": "pos", "t3": "neg"}
    assert (result["complete"], result["missing"]) == (True, None)
    assert result["statistics"]["annotations"] == {"valid": 4, "superseded": 1, "deleted": 2}


@pytest.mark.parametrize(
    ("shows", "choices", "payload", "answer", "kind"),
    [
        ("text", ['Worth "$5" & <more>?', "$neg"], {"text": "$5 & <b>"}, "$neg", "choices"),
        ("image", ["a", "b"], {"image": "https://example.com/1.jpg"}, "b", "choices"),
        ("row", [], {"x": 1, "y": [1, "é"], "z": None}, 3.5, "number"),
        ("confirm", ["a", "b"], {"x": True}, "a", "choices"),
        ("pair", ["left", "right", "tie"], {"left": "one", "right": {"n": 2}}, "tie", "choices"),
    ],
)
def test_every_kind_of_campaign(there: Place, server: Server, shows: str, choices: list[str], payload: Any, answer: Any, kind: str) -> None:
    there.open(tasks=0, question='Is it "$5"?', shows=shows, choices=choices, predictions={"show": True, "blind": 0})
    there.add("k", payload=payload, prediction={"label": answer, "score": 0.75})
    assert there.push() == TasksSent(sent=1)
    task = server.tasks(project(there))["k"]
    [prediction] = server.call("GET", f"/api/tasks/{task['id']}/")["predictions"]
    assert (prediction["score"], prediction["result"][0]["value"]) == (0.75, {kind: [answer] if kind == "choices" else answer})
    server.annotate(task, answer, kind)
    assert there.reconcile() == Reconciled(found=1)
    assert there.senders.rows("select value from annotation where campaign_id = :id", id=there.id) == [(answer,)]


def test_what_was_cut_off_is_gone_on_with(there: Place, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 2)
    there.open(tasks=5, overlap={"labels": 1, "most": 3})
    assert there.push() == TasksSent(sent=5)
    with there.database.transaction() as session:
        session.execute(text("update external_ref set external_id = null where campaign_id = :id"), {"id": there.id})
        session.execute(text("update external_project set project = null where campaign_id = :id"), {"id": there.id})
    assert there.push() == TasksSent(sent=5)
    tasks = server.tasks(project(there))
    for key, task in tasks.items():
        server.annotate(task, "pos" if key != "t4" else "neg")
    assert there.reconcile() == Reconciled(found=5)
    assert there.reconcile(whole=True) == Reconciled()


def test_somebody_else_is_asked_where_two_disagree(there: Place, server: Server) -> None:
    there.open(tasks=1, overlap={"labels": 2, "most": 3})
    there.push()
    task = server.tasks(project(there))["t0"]
    with closing(server.somebody_else()) as second, closing(server.somebody_else()) as third:

        def asked(browser: httpx.Client) -> int:
            return browser.get(f"/api/projects/{project(there)}/next").status_code

        server.annotate(task, "pos")
        assert asked(second) == 200
        said = [{"from_name": "label", "to_name": "shown", "type": "choices", "value": {"choices": ["neg"]}}]
        second.post(f"/api/tasks/{task['id']}/annotations/", json={"result": said}, headers=_proof(second)).raise_for_status()
        assert asked(third) == 404, "it has had two opinions"
        assert there.reconcile() == Reconciled(found=2)
        there.campaigns.tick(there.id)
        there.push()
        assert (asked(third), asked(second)) == (200, 404)


def _proof(browser: httpx.Client) -> dict[str, str]:
    return {"X-CSRFToken": browser.cookies.get("csrftoken") or "", "Referer": str(browser.base_url)}


def test_refusals(there: Place, server: Server) -> None:
    there.open()
    there.push()
    client = there.servers(there.settings)
    with pytest.raises(NotFound):
        client.project(10**6)
    with pytest.raises(NotFound), client.export(10**6) as tasks:
        list(tasks)
    Path(str(there.settings.token).removeprefix("file:")).write_text("0" * 40)
    with pytest.raises(AccessDenied, match="Invalid token"):
        there.reconcile()
    assert "Invalid token" in str(there.problems()[1])


def test_the_fake_answers_as_it_does(there: Place, server: Server) -> None:
    """What the other tests are built on: the fields of which use is made."""
    there.open(tasks=1)
    there.push()
    task = server.tasks(project(there))["t0"]
    server.annotate(task, "pos")
    query = json.dumps({"ordering": ["tasks:updated_at"]})
    where = {"project": project(there), "fields": "all", "page": 1, "page_size": 2, "query": query, "include": "id,meta,annotations,result"}
    answer = httpx.get(f"{server.address}/api/tasks", params=where, headers={"Authorization": f"Token {LEGACY}"}, timeout=60)
    assert "date" in answer.headers
    [listed] = answer.json()["tasks"]
    assert set(listed) == {"id", "meta", "annotations"}
    assert [set(each) for each in listed["annotations"]] == [{"id", "result"}]
    [looked_up] = there.servers(there.settings).changed(project(there), None, 1, 2).tasks[0]["annotations"]
    [exported] = server.tasks(project(there))["t0"]["annotations"]
    assert {name: exported[name] for name in KEPT} == looked_up
