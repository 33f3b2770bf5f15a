"""What the activities need of a Label Studio server, and of the rows that say what of a campaign is there.

`perdure.adapters.labelstudio` implements the first, `perdure.metadata.repository` the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.errors import PerdureError
from perdure.labeling.deliveries import Arrived, Delivery, Meaning, Unusable
from perdure.labeling.spec import Campaign
from perdure.messages.common import Json
from perdure.messages.labeling import Assist


@dataclass(frozen=True, kw_only=True)
class Unsent:
    """A task that Label Studio may not have yet. ``assisted``: people audit what a model says of it."""

    id: UUID
    key: str
    payload: Json
    overlap: int
    prediction: Json | None = None
    assisted: Assist | None = None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A campaign's place in Label Studio. ``project`` is none until it is made.

    ``watermark`` is a time of Label Studio's: what changed there before it has been read. ``secret`` refers to what its web hook proves
    itself with; none, where there is no secret or the hook is retired.
    """

    campaign: UUID
    name: str
    spec: Campaign
    address: str
    hook: str
    secret: str | None = None
    project: int | None = None
    watermark: datetime | None = None


class SentTasks(Protocol):
    """What of a campaign is in Label Studio."""

    def place(self, campaign: UUID, address: str, secret: str | None) -> Elsewhere:
        """The campaign's place there, its hook with it, made where there is none yet. Raises NotFound."""

    def settle(self, campaign: UUID, address: str, project: int) -> Elsewhere:
        """The campaign's project is this one, at this address."""

    def unsent(self, campaign: UUID, limit: int) -> list[Unsent]:
        """Open tasks that were never sent, the most wanted first. From here on each counts as one that may be there."""

    def unsure(self, campaign: UUID) -> list[Unsent]:
        """Tasks of which it is not known whether they are there: whoever sent them did not come back."""

    def sent(self, campaign: UUID, ids: Mapping[UUID, int], overlap: int) -> None:
        """Label Studio has these tasks, under these ids of its own, and asks for so many opinions on each."""

    def refused(self, task: UUID, why: str) -> None:
        """The task cannot be shown there."""

    def wanting(self, campaign: UUID) -> list[tuple[UUID, int, int]]:
        """Tasks of which Label Studio has had all opinions that it asks for, and more are wanted: id, id there, how many then."""

    def read_until(self, campaign: UUID, at: datetime) -> None:
        """What changed in Label Studio before *at* has been read."""

    def sending(self, campaign: UUID, problem: PerdureError | None) -> None:
        """All was sent, or why not. The owner is told once of what will not pass by itself."""

    def reading(self, campaign: UUID, problem: PerdureError | None) -> None:
        """All was read, or why not. The owner is told once of what will not pass by itself."""

    def given(self, campaign: UUID, names: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these answers of Label Studio (source key, revision) are there already."""

    def standing(self, campaign: UUID) -> dict[str, str]:
        """Answers of Label Studio that nobody has deleted: the keys of their tasks by source key."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of Label Studio's: its description, and what it has read out of its labeling config."""

    id: int
    description: str
    controls: Json


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Tasks of a project, the one that changed first before the others, and what time it was there."""

    tasks: list[Json]
    at: datetime


class Untaken(Exception):
    """Label Studio takes none of these tasks, as one of them is wrong: in its words."""


class LabelStudio(Protocol):
    """A Label Studio server.

    Raises LabelStudioUnavailable where it does not answer, AccessDenied, NotFound, and InvalidInput for what it does not take.
    """

    address: str
    secret: str | None

    def project(self, id: int) -> Project:
        """Raises NotFound."""

    def find_project(self, description: str) -> int | None:
        """The oldest project with this description."""

    def create_project(self, title: str, description: str, config: str, instructions: str, overlap: int) -> int:
        """A new project; its id."""

    def register(self, project: int, hook: str, secret: str) -> None:
        """Have the gateway's *hook* told of annotations, with the secret to which *secret* refers; no-op where that is so."""

    def import_tasks(self, project: int, lines: Sequence[Json]) -> list[int]:
        """Add tasks, all or none; their ids, in order. Raises Untaken."""

    def tasks(self, project: int) -> Iterator[tuple[int, Json]]:
        """The id of every task, and the task without its data, the newest first."""

    def ask_more(self, task: int, overlap: int) -> None:
        """Have so many people asked about a task, which may have counted as labeled."""

    def changed(self, project: int, since: datetime | None, page: int, size: int) -> Changed:
        """Tasks with their annotations that changed at *since* or later."""

    def export(self, project: int) -> AbstractContextManager[Iterator[Json]]:
        """Every task with its annotations. Whole, or LabelStudioUnavailable is raised before its end."""


class Inbox(Protocol):
    """What keeps messages to hooks, and does what they say."""

    def receive(self, arrived: Arrived, meaning: Meaning | Unusable) -> Delivery:
        """The same key again is a duplicate."""

    def replay(self, hook: str, campaign: UUID | None, key: str, meaning: Meaning | Unusable) -> Delivery:
        """Try a message once more that could not be used."""
