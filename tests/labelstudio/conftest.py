"""A fake Label Studio, and campaigns on a real Postgres that are shown there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from perdure.activities.labelstudio import LabelStudioActivities
from perdure.adapters.labelstudio import LabelStudioServer
from perdure.config import GatewaySettings, LabelStudioSettings, Settings
from perdure.gateway.hooks import labelstudio as inbound
from perdure.labeling.deliveries import Arrived, Delivery
from perdure.labeling.ports import NewTask
from perdure.messages.labeling import CampaignRef, Reconcile, Reconciled, TasksSent
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, CampaignRows, DeliveryRows, SentTaskRows
from perdure.metadata.upgrade import upgrade
from perdure.temporal import connect, ensure_search_attributes
from tests.gateway.world import Senders
from tests.labelstudio.fake import LEGACY, Fake, Json, serving
from tests.servers import Stack

SPEC: Json = {
    "question": "How is it?",
    "choices": ["pos", "neg"],
    "gold": {"rate": 0},
    "overlap": {"labels": 1, "most": 3},
    "owner": "ann",
    "labelstudio": {},
}


Servers = Callable[..., LabelStudioServer]


class Place:
    """One campaign, its rows, and a Label Studio."""

    def __init__(self, database: Database, senders: Senders, fake: Fake, servers: Servers, settings: LabelStudioSettings) -> None:
        self.database, self.senders, self.fake, self.servers, self.settings = database, senders, fake, servers, settings
        self.campaigns, self.rows = CampaignRows(database), SentTaskRows(database)
        self.name = f"c{uuid4().hex[:8]}"
        self.id: UUID = UUID(int=0)

    def open(self, tasks: int = 3, **spec: object) -> None:
        self.id = self.campaigns.open(self.name, {**SPEC, **spec}, f"campaign/{self.name}", "ann").id
        self.add(*(f"t{n}" for n in range(tasks)))

    def add(self, *keys: str, **more: object) -> None:
        self.campaigns.put_tasks(self.id, [NewTask(key=key, **{"payload": {"text": f"this is {key}"}, **more}) for key in keys])  # type: ignore[arg-type]

    @property
    def activities(self) -> LabelStudioActivities:
        """As in a worker that has just started."""
        return LabelStudioActivities(self.rows, DeliveryRows(self.database), self.servers(self.settings))

    def push(self) -> TasksSent:
        return ActivityEnvironment().run(self.activities.push, CampaignRef(campaign=self.id))

    def reconcile(self, whole: bool = False) -> Reconciled:
        return ActivityEnvironment().run(self.activities.reconcile, Reconcile(campaign=self.id, whole=whole))

    def by_hook(self, message: Json) -> Delivery:
        """The message as the gateway takes it."""
        hook = AccessRows(self.database).hook(f"ls-{self.id.hex}")
        body = json.dumps(message).encode()
        read = inbound.read(hook, body, datetime.now(UTC), {})
        arrived = Arrived(hook=hook.id, campaign=self.id, key=str(read.key), body=read.body, body_sha256="", headers={})
        return DeliveryRows(self.database).receive(arrived, read.meaning)

    def statuses(self) -> dict[str, list[str]]:
        return self.senders.statuses(self.name)

    def deliveries(self) -> list[tuple[str, str]]:
        query = "select state, coalesce(error, '') from delivery where hook_id = :hook order by received_at, key"
        return self.senders.rows(query, hook=f"ls-{self.id.hex}")  # type: ignore[return-value]

    def problems(self) -> tuple[str | None, str | None]:
        query = "select sending_problem, reading_problem from external_project where campaign_id = :id"
        return self.senders.rows(query, id=self.id)[0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    with Database.open(settings) as opened:
        yield opened


@pytest.fixture
def served() -> Iterator[tuple[Fake, str]]:
    with serving() as found:
        yield found


@pytest.fixture
def connection(served: tuple[Fake, str], tmp_path: Path) -> LabelStudioSettings:
    for name, secret in (("token", LEGACY), ("secret", "s3cret")):
        (tmp_path / name).write_text(secret)
    return LabelStudioSettings(url=served[1], token=f"file:{tmp_path / 'token'}", secret=f"file:{tmp_path / 'secret'}")


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Makes clients, as a process does when it starts."""
    with ExitStack() as stack:
        gateway = GatewaySettings(url="http://gateway:8400/")
        yield lambda settings, *more, **named: stack.enter_context(closing(LabelStudioServer(settings, gateway, *more, **named)))


@pytest.fixture
def place(database: Database, served: tuple[Fake, str], servers: Servers, connection: LabelStudioSettings, tmp_path: Path) -> Place:
    return Place(database, Senders(database, tmp_path), served[0], servers, connection)


@pytest.fixture(scope="module")
async def client(stack: Stack) -> Client:
    client = await connect(stack.settings)
    await ensure_search_attributes(client)
    return client
