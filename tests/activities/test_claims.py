"""A cached result is used only if it is whole; who waits for another run's computation gives its place to one that can go on."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure.activities import claims
from perdure.activities.claims import Claims, Environment
from perdure.activities.guard import Guard
from perdure.errors import CorruptArtifact
from perdure.messages.common import ArtifactRef
from perdure.messages.pipeline import RunState, StepKind
from perdure.ports import Claim, PipelineVersion, Run, StepRun
from perdure.temporal import connect
from perdure.workflows.policies import JOB
from tests.servers import Stack

RUN = Run(
    id=uuid4(),
    workflow_id="run/p/2",
    pipeline=PipelineVersion(id=uuid4(), name="p", number=1, sha256="0" * 64, spec={}),
    spec={},
    state=RunState.RUNNING,
)
STEP = StepRun(id=uuid4(), run_id=RUN.id, round=0, step=StepKind.TRAIN, state="running")


class Busy:
    """Rows in which another run computes the key until it is said to have ended; and the activities that a worker offers."""

    def __init__(self) -> None:
        self.busy = True
        self.asked: list[float] = []
        self.claims = Claims(self, self, Environment(versions={}))  # type: ignore[arg-type]

    def claim(self, step_run: UUID, key: str, **_: Any) -> Claim:
        self.asked.append(time.monotonic())
        return Claim(busy=uuid4(), reason="waits: run/p/1 computes the same step now") if self.busy else Claim(mine=True, reason="miss")

    @activity.defn(name="waits", no_thread_cancel_exception=True)
    def waits(self) -> str:
        return self.claims.claim(RUN, STEP, params={}, inputs=[], artifacts="").reason

    @activity.defn(name="goes-on", no_thread_cancel_exception=True)
    def goes_on(self) -> None:
        self.busy = False


class Cached:
    """Rows that know a result, of step run *of*, and objects of which some are gone."""

    def __init__(self, of: UUID, gone: str = "") -> None:
        self.hit = replace(STEP, id=of, state="succeeded", result={"manifest": ref("manifest")})
        self.gone = gone

    def claim(self, *_: Any, use_cache: bool, **__: Any) -> Claim:
        return Claim(hit=self.hit, reason="hit") if use_cache or self.hit.id == STEP.id else Claim(mine=True, reason="miss")

    def exists(self, artifact: ArtifactRef) -> bool:
        return self.all_there([artifact])

    def all_there(self, artifacts: list[ArtifactRef]) -> bool:
        return all(self.gone != artifact.uri for artifact in artifacts)

    def get_json(self, artifact: ArtifactRef) -> Any:
        return {"files": [ref("train"), ref("test")]}


def ref(name: str) -> dict[str, Any]:
    return ArtifactRef(uri=name, sha256="0" * 64, size=1).as_json()


def claimed(ports: Any) -> Claim:
    claims = Claims(ports, ports, Environment(versions={}))
    claim: Claim = ActivityEnvironment().run(
        lambda: claims.claim(RUN, STEP, params={}, inputs=[], artifacts="manifest", named=lambda manifest: manifest["files"])
    )
    return claim


@pytest.mark.parametrize(("gone", "mine"), [("", False), ("manifest", True), ("test", True)])
def test_a_result_of_which_something_is_gone_is_computed_again(gone: str, mine: bool) -> None:
    assert claimed(Cached(uuid4(), gone)).mine is mine


@pytest.mark.parametrize("gone", ["manifest", "train"])
def test_a_step_that_has_succeeded_and_lost_what_it_made_says_so(gone: str) -> None:
    assert claimed(Cached(STEP.id)).hit is not None
    with pytest.raises(CorruptArtifact, match="start a new run"):
        claimed(Cached(STEP.id, gone))


@workflow.defn(name="One")
class One:
    @workflow.run
    async def run(self, name: str) -> Any:
        config: workflow.ActivityConfig = {**JOB, "task_queue": workflow.info().task_queue}
        return await workflow.execute_activity(name, **config)


async def test_who_waits_holds_no_place_and_says_why(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BUSY_POLL", 0.05)
    monkeypatch.setattr(claims, "BUSY_LIMIT", 0.2)
    monkeypatch.setattr(claims, "BUSY_AGAIN", timedelta(seconds=4))  # above the longest interval of the policy
    client: Client = await connect(stack.settings)
    rows, queue = Busy(), f"claims-{uuid4()}"
    with ThreadPoolExecutor(4) as pool:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[One],
            activities=[rows.waits, rows.goes_on],
            activity_executor=pool,
            interceptors=[Guard()],
            max_concurrent_activities=1,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            waiting = await client.start_workflow("One", "waits", id=f"waits-{uuid4()}", task_queue=queue)
            for _ in range(200):
                [pending] = (await waiting.describe()).raw_description.pending_activities or [None]
                if pending is not None and pending.HasField("last_failure"):
                    break
                await asyncio.sleep(0.05)
            assert pending is not None
            assert "run/p/1 computes the same step now" in pending.last_failure.message
            asked = len(rows.asked)
            assert asked > 2, "for a moment it waits in its place"
            await client.execute_workflow("One", "goes-on", id=f"goes-on-{uuid4()}", task_queue=queue)
            assert await waiting.result() == "miss"
            assert rows.asked[asked] - rows.asked[asked - 1] > 3.9, "the retry came when it was said to, not at once"
            history = await waiting.fetch_history()
            assert len(history.events) < 15, "retries cost no history"
