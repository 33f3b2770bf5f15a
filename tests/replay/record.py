"""Record histories: ``python -m tests.replay.record WORKFLOW_ID VARIANT`` writes the run's and its children's histories of a running stack.

A released version's histories are never changed; a new version adds files (``Type.variant.json``).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client

from perdure.config import Settings
from perdure.temporal import connect

FOLDER = Path(__file__).parent / "histories"


async def record(client: Client, workflow_id: str, variant: str) -> None:
    """Write the history of *workflow_id* and of every child that it started; of several children of one type, that of the last."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    (FOLDER / f"{started.workflow_type.name}.{variant}.json").write_text(history.to_json())
    for event in history.events:
        if event.HasField("child_workflow_execution_started_event_attributes"):
            await record(client, event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id, variant)


async def main() -> None:
    client = await connect(Settings())
    await record(client, sys.argv[1], sys.argv[2])
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
