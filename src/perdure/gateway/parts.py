"""What routes work with: rows, the writers of answers, and Temporal; opened once per process."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Annotated, ParamSpec, TypeVar
from uuid import UUID

from fastapi import Depends, Request
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from perdure.config import Settings
from perdure.errors import InvalidInput, NotFound, TemporalUnavailable
from perdure.gateway.auth import Keys
from perdure.gateway.rates import Rates
from perdure.gateway.seldom import Seldom
from perdure.gateway.together import Together
from perdure.keys import identity
from perdure.labeling.ports import CampaignRow, Held, Incoming, Lease, Progress
from perdure.messages.labeling import AnswerResult, CampaignRequest
from perdure.metadata.database import Database
from perdure.metadata.queries import campaign_progress
from perdure.metadata.repository import AccessRows, CampaignRows, DeliveryRows, DriftRows, LabelRows, PromotionRows, SessionRows
from perdure.metadata.repository.access import NAME, Hook
from perdure.metadata.repository.feedback import FeedbackRows
from perdure.temporal import connect

P = ParamSpec("P")
T = TypeVar("T")
TEMPORAL_SECONDS = 5.0
_LEASED = 50_000  # leases of this process that are remembered
HOOK_SECONDS = 3.0  # so long a retired hook, or a secret that was replaced, may still be taken


class Parts:
    """One process's connections. Blocking calls run in as many threads as there are connections."""

    def __init__(self, settings: Settings, database: Database, pool: ThreadPoolExecutor, figures: ThreadPoolExecutor) -> None:
        self.settings, self.database, self._pool = settings, database, pool
        self.access, self.campaigns, self.labels = AccessRows(database), CampaignRows(database), LabelRows(database)
        self.deliveries, self.promotions = DeliveryRows(database), PromotionRows(database)
        self.drift, self.sessions = DriftRows(database), SessionRows(database)
        self.feedback = FeedbackRows(database)
        self.keys = Keys(lambda digest: self.call(self.access.key, digest))
        self.cookies = Keys(lambda digest: self.call(self.sessions.session, digest))
        self._figures = Seldom(figures)
        self._held: Together[tuple[UUID, UUID], Held | None] = Together(lambda leases: self.call(self.labels.held, leases))
        self._leased: dict[tuple[UUID, UUID], Held] = {}
        self._writers: dict[UUID, Together[Incoming, AnswerResult]] = {}
        self.importing = asyncio.Semaphore(2)  # each has a thread for as long as it takes, which answers need, too
        self.rates = Rates(settings.gateway.hook_rate) if settings.gateway.hook_rate else None
        self._hooks: dict[str, tuple[float, Hook]] = {}
        self._temporal: Client | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Parts]:
        """The parts, until the end of the block. Nothing is connected before it is needed."""
        with (
            Database.open(settings) as database,
            ThreadPoolExecutor(settings.postgres.pool, thread_name_prefix="rows") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="figures") as figures,
        ):
            yield cls(settings, database, pool, figures)

    async def call(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """*work* in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *arguments, **named))

    async def progress(self, reference: str) -> Progress:
        """The campaign that a path names as it stands, with its figures. Raises NotFound."""
        row = await self.campaign(reference)
        return replace(await self.count(campaign_progress, row.id), campaign=row)

    async def count(self, work: Callable[[Database, UUID], T], campaign: UUID) -> T:
        """Figures of a campaign that read all its answers: beside what labelers wait for, and not each time where that takes long."""
        return await self._figures.found((work, campaign), partial(work, self.database, campaign))

    # --- campaigns -----------------------------------------------------------------------------------------------------

    def campaign_id(self, reference: str) -> UUID:
        """The id of the campaign that a path names, by its id or its name. Raises NotFound for what can be neither."""
        try:
            return UUID(reference)
        except ValueError:
            if not re.fullmatch(NAME, reference):
                raise NotFound("there is no such campaign", field="campaign", remedy="GET /v1/campaigns lists all") from None
            return identity(self.database.tenant, "campaign", reference)

    async def campaign(self, reference: str) -> CampaignRow:
        """The campaign that a path names. Raises NotFound."""
        id = self.campaign_id(reference)
        try:
            return await self.call(self.campaigns.campaign, id)
        except NotFound as err:
            raise NotFound(f"there is no campaign {reference!r}", field=err.field, remedy=err.remedy) from None

    async def start_campaign(self, campaign: CampaignRow) -> None:
        """Start the campaign's workflow unless it runs or has ended well. Raises TemporalUnavailable."""
        client = await self.temporal()
        request = CampaignRequest(campaign=campaign.name, requested_by=campaign.requested_by)
        try:
            async with asyncio.timeout(TEMPORAL_SECONDS):
                await client.start_workflow(
                    "LabelingCampaign",
                    request,
                    id=campaign.workflow_id,
                    task_queue="perdure",
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                )
        except WorkflowAlreadyStartedError:
            return
        except (RPCError, TimeoutError) as err:
            raise TemporalUnavailable(
                "the campaign is there, but Temporal does not answer to start its workflow", remedy="send the same again"
            ) from err

    async def temporal(self) -> Client:
        """The one client. Raises TemporalUnavailable."""
        async with self._connecting:
            if self._temporal is None:
                try:
                    self._temporal = await asyncio.wait_for(connect(self.settings), TEMPORAL_SECONDS)
                except (RuntimeError, TimeoutError) as err:
                    raise TemporalUnavailable("Temporal does not answer", remedy="send the same again") from err
            return self._temporal

    # --- answers -------------------------------------------------------------------------------------------------------

    async def lease(self, campaign: UUID, labeler: str, most: int) -> list[Lease]:
        """Tasks for *labeler*. What is leased here is known here when it is answered."""
        return self._remember(campaign, labeler, await self.call(self.labels.lease, campaign, labeler, most))

    async def resume(self, campaign: UUID, labeler: str, most: int) -> list[Lease]:
        """What *labeler* holds already, under new tokens."""
        return self._remember(campaign, labeler, await self.call(self.labels.resume, campaign, labeler, most))

    def _remember(self, campaign: UUID, labeler: str, found: list[Lease]) -> list[Lease]:
        if len(self._leased) > _LEASED:
            self._leased.clear()
        for each in found:
            self._leased[each.assignment, each.token] = Held(campaign=campaign, task=each.task, labeler=labeler)
        return found

    async def release(self, assignment: UUID, token: UUID) -> None:
        """Give a task back. Raises LeaseLost."""
        self._leased.pop((assignment, token), None)
        await self.call(self.labels.release, assignment, token)

    async def held(self, assignment: UUID, token: UUID) -> Held | None:
        """What a lease is about; None where it is lost. One that was not made here is looked up, together with others.

        What is known here may be lost since, by another process: `accept` looks again.
        """
        return self._leased.get((assignment, token)) or (await self._held([(assignment, token)]))[0]

    async def accept(self, campaign: UUID, answers: list[Incoming]) -> list[AnswerResult]:
        """Every answer's status, once it is committed, in one transaction with those of others who answer now."""
        writer = self._writers.get(campaign)
        if writer is None:
            writer = self._writers[campaign] = Together(
                lambda items: self.call(self.labels.accept, campaign, items), idle=lambda: self._writers.pop(campaign)
            )
        return await writer(answers)

    # --- hooks ---------------------------------------------------------------------------------------------------------

    async def hook(self, id: str) -> Hook:
        """The hook, as it was some seconds ago at most. Raises NotFound."""
        at, hook = self._hooks.get(id, (0.0, None))
        if hook is None or time.monotonic() - at > HOOK_SECONDS:
            hook = await self.call(self.access.hook, id)
            self._hooks[id] = (time.monotonic(), hook)
        return hook


async def _parts(request: Request) -> Parts:  # async, as a thread would be taken for it else
    parts: Parts = request.app.state.parts
    return parts


Shared = Annotated[Parts, Depends(_parts)]
"""A route's parameter: the process's parts."""


def text_field(value: str, field: str) -> str:
    """*value* where Postgres can hold it. Raises InvalidInput."""
    if "\x00" in value:
        raise InvalidInput("a NUL character is no text", field=field, remedy="leave it out")
    return value
