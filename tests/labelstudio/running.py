"""A campaign's workflow with its worker, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer, Worker

from perdure.activities.guard import Guard
from perdure.activities.labeling import LabelingActivities
from perdure.adapters.consolidation import DawidSkeneConsolidation
from perdure.adapters.lines import S3Lines
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef
from perdure.metadata.repository import LabelRows
from perdure.temporal import DATA_CONVERTER
from perdure.workflows.labeling import LabelingCampaign
from perdure.workflows.policies import MAIN
from tests.labelstudio.conftest import SPEC, Place


class Campaign:
    def __init__(self, place: Place, settings: Settings, client: Client) -> None:
        self.place, self.client, self.objects = place, client, ObjectStore(settings.s3, attempts=2)
        self.handle: WorkflowHandle[Any, Any]

    @asynccontextmanager
    async def running(self, tasks: int = 3, patience: float = 10, **spec: Any) -> AsyncIterator[None]:
        place = self.place
        rows = LabelingActivities(place.campaigns, LabelRows(place.database), S3Lines(self.objects), DawidSkeneConsolidation())
        there = place.activities
        work = [rows.open, rows.import_tasks, rows.tick, rows.close, rows.command, rows.snapshot, there.push, there.reconcile]
        with ThreadPoolExecutor(8) as pool:
            async with Worker(
                self.client,
                task_queue=MAIN,
                workflows=[LabelingCampaign],
                activities=work,
                activity_executor=pool,
                interceptors=[Guard()],
            ):
                lines = b"".join(canonical({"key": f"t{n}", "payload": {"text": str(n)}}) + b"\n" for n in range(tasks))
                manifest = self.objects.put("tasks", "tasks.ndjson", lines)
                request = {"campaign": place.name, "spec": {**SPEC, **spec}, "tasks": manifest.as_json(), "patience": patience}
                self.handle = await self.client.start_workflow("LabelingCampaign", request, id=f"campaign/{place.name}", task_queue=MAIN)
                await self.until(lambda: place.campaigns.named(place.name).total == tasks)
                place.id = place.campaigns.named(place.name).id
                yield

    async def until(self, done: Callable[[], object]) -> None:
        for _ in range(1000):
            try:
                if await asyncio.to_thread(done):
                    return
            except Exception:  # noqa: S110 (it is not there yet)
                pass
            await asyncio.sleep(0.02)
        raise AssertionError("it does not come")

    async def labels(self) -> tuple[dict[str, str], Any]:
        """The snapshot, and the workflow's result. Its history can be replayed."""
        result = await self.handle.result()
        history = await self.handle.fetch_history()
        await Replayer(workflows=[LabelingCampaign], data_converter=DATA_CONVERTER).replay_workflow(history)
        lines = [json.loads(line) for line in self.objects.get(ArtifactRef(**result["snapshot"])).splitlines()]
        return {line["key"]: line["label"] for line in lines}, result
