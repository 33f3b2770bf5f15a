"""Weeks of waiting in a second: workflows on Temporal's test server, whose clock skips what nobody waits for.

Activities are stand-ins that keep their rows in memory and read the workflow's own clock, since Postgres's does not skip.
The server allows one workflow at a time (stated by its makers), so each test has a server of its own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure.messages.common import ArtifactRef
from perdure.messages.labeling import (
    CampaignPlan,
    CampaignRef,
    CampaignRequest,
    CampaignStanding,
    CampaignState,
    CloseCampaign,
    OpenCampaign,
    SnapshotTaken,
    Tick,
)
from perdure.messages.promotion import (
    ApprovalState,
    ClosePromotion,
    PromoteRequest,
    PromotionPlan,
    PromotionRef,
    PromotionResult,
    RecordVote,
    Remind,
)
from perdure.temporal import DATA_CONVERTER, SEARCH_ATTRIBUTES
from perdure.workflows.labeling import LabelingCampaign
from perdure.workflows.policies import MAIN
from perdure.workflows.promotion import ModelPromotion
from tests.conftest import SERVERS

JARS = SERVERS.parent / "test-server" / "lib"


@pytest_asyncio.fixture
async def skipping(tmp_path: Path) -> AsyncIterator[WorkflowEnvironment]:
    java = shutil.which("java")
    if java is None or not JARS.is_dir():
        pytest.skip("no time-skipping server: `make test` fetches it where Java and Maven are on the PATH")
    server = tmp_path / "test-server"
    server.write_text(
        f'#!/bin/sh\nexec {java} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "{JARS}/*" io.temporal.testserver.TestServer "$@"\n'
    )
    server.chmod(0o755)
    started = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server), test_server_startup_timeout=timedelta(minutes=1), data_converter=DATA_CONVERTER
    )
    async with started as environment:
        for name in SEARCH_ATTRIBUTES:
            await environment.client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(search_attributes={name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD})
            )
        yield environment


def _now() -> datetime:
    """The server's clock, as an activity sees it."""
    return activity.info().current_attempt_scheduled_time


class Votes:
    """A promotion's rows: open for ``deadline``, with ``required`` approvals wanted."""

    def __init__(self, deadline: timedelta, required: int) -> None:
        self.plan = PromotionPlan(promotion=uuid4(), passed=True, required=required, deadline=deadline, evidence_sha256="e" * 64)
        self.by: list[str] = []
        self.looks = 0
        self.lasted = timedelta(0)
        self.reminded: dict[int, timedelta] = {}

    @activity.defn(name="promotion.remind")
    async def remind(self, request: Remind) -> None:
        self.reminded.setdefault(request.number, _now() - self.began)

    @activity.defn(name="promotion.open")
    async def open(self, request: PromoteRequest) -> PromotionPlan:
        if self.plan.until is None:
            self.plan = replace(self.plan, until=_now() + self.plan.deadline)
            self.began = _now()
        return self.plan

    @activity.defn(name="promotion.approval")
    async def approval(self, request: PromotionRef) -> ApprovalState:
        self.looks += 1
        return ApprovalState(approvals=len(self.by), rejections=0, required=self.plan.required, approved_by=self.by)

    @activity.defn(name="promotion.vote")
    async def vote(self, request: RecordVote) -> ApprovalState:
        self.by.append(request.actor)
        return ApprovalState(approvals=len(self.by), rejections=0, required=self.plan.required, approved_by=self.by)

    @activity.defn(name="promotion.close")
    async def close(self, request: ClosePromotion) -> PromotionResult:
        assert request.promotion == self.plan.promotion
        self.lasted = _now() - self.began
        return PromotionResult(promotion=request.promotion, released=request.release, reason=request.reason)


async def _promoted(environment: WorkflowEnvironment, votes: Votes, voter: str | None = None, after: timedelta = timedelta(0)) -> Any:
    request = PromoteRequest(run_id=uuid4(), model="m", model_version=uuid4(), evaluation=uuid4())
    acts = [votes.open, votes.approval, votes.vote, votes.remind, votes.close]
    async with Worker(environment.client, task_queue=MAIN, workflows=[ModelPromotion], activities=acts):
        handle = await environment.client.start_workflow(ModelPromotion.run, request, id=f"promote/{uuid4()}", task_queue=MAIN)
        if voter is not None:
            await environment.sleep(after)
            await handle.execute_update("approve", {"actor": voter})
        return await asyncio.wait_for(handle.result(), 60)


async def test_nobody_decides_for_a_month(skipping: WorkflowEnvironment) -> None:
    votes = Votes(deadline=timedelta(days=30), required=1)
    result = await _promoted(skipping, votes)
    assert (result.released, result.reason) == (False, "nobody decided within 30 days, 0:00:00: 0 of 1 approvals")
    assert timedelta(days=30) <= votes.lasted < timedelta(days=30, minutes=1)
    assert votes.looks < 150, "looks grow rarer"


async def test_a_vote_after_three_weeks(skipping: WorkflowEnvironment) -> None:
    votes = Votes(deadline=timedelta(days=30), required=1)
    result = await _promoted(skipping, votes, voter="ada", after=timedelta(days=21))
    assert (result.released, result.reason) == (True, "approved by ada")
    assert timedelta(days=20, hours=23) < votes.lasted < timedelta(days=22)


async def test_people_are_reminded_until_the_deadline(skipping: WorkflowEnvironment) -> None:
    votes = Votes(deadline=timedelta(days=10), required=1)
    votes.plan = replace(votes.plan, remind=timedelta(days=3))
    result = await _promoted(skipping, votes)
    assert not result.released
    assert [(number, after.days) for number, after in votes.reminded.items()] == [(1, 3), (2, 6), (3, 9)]


class Decisions:
    """A campaign's rows: ``tasks`` of them, of which nobody answers any, until it is closed at its deadline."""

    def __init__(self, deadline: timedelta, tasks: int) -> None:
        self.deadline, self.tasks = deadline, tasks
        self.until: datetime | None = None
        self.lasted = timedelta(0)
        self.state = CampaignState.OPEN
        self.looks = 0

    @activity.defn(name="labeling.open")
    async def open(self, request: OpenCampaign) -> CampaignPlan:
        self.until, self.began = _now() + self.deadline, _now()
        return CampaignPlan(campaign=uuid4(), name=request.request.campaign)

    @activity.defn(name="labeling.tick")
    async def tick(self, request: CampaignRef) -> Tick:
        self.looks += 1
        assert self.until is not None
        due = self.until - _now()
        over = "the deadline is over" if due <= timedelta(0) else None
        return Tick(total=self.tasks, decided=0, rejected=0, open=self.tasks, state=self.state, over=over, due=due)

    @activity.defn(name="labeling.close")
    async def close(self, request: CloseCampaign) -> CampaignStanding:
        self.state, self.lasted = CampaignState.CLOSED, _now() - self.began
        return CampaignStanding(state=self.state, version=2, deadline=self.until)

    @activity.defn(name="labeling.snapshot")
    async def snapshot(self, request: CampaignRef) -> SnapshotTaken:
        return SnapshotTaken(snapshot=ArtifactRef(uri="s3://labels/none", sha256="0" * 64, size=0), number=1, tasks=0)


async def test_a_campaign_that_nobody_answers_for_ten_weeks(skipping: WorkflowEnvironment) -> None:
    rows = Decisions(deadline=timedelta(days=70), tasks=5)
    acts = [rows.open, rows.tick, rows.close, rows.snapshot]
    async with Worker(skipping.client, task_queue=MAIN, workflows=[LabelingCampaign], activities=acts):
        request = CampaignRequest(campaign="quiet", spec={"question": "Is it spam?"})
        handle = await skipping.client.start_workflow(LabelingCampaign.run, request, id="campaign/quiet", task_queue=MAIN)
        result = await asyncio.wait_for(handle.result(), 60)
    assert (result.tasks, result.complete, result.reason) == (0, False, "the deadline is over")
    assert timedelta(days=70) <= rows.lasted < timedelta(days=70, minutes=1)
    assert rows.looks < 320, "a quiet campaign looks four times a day"
