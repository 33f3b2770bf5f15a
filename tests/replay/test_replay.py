"""Recorded histories are kept promises: today's workflow code must make the same decisions from them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from perdure.messages.evaluation import EvaluateRequest, EvaluateResult
from perdure.temporal import DATA_CONVERTER
from perdure.workers.registry import WORKFLOWS

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def history(path: Path) -> WorkflowHistory:
    body = path.read_text()
    started = json.loads(body)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], body)  # ids of children derive from it


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_replay(path: Path) -> None:
    await Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER).replay_workflow(history(path))


def test_every_workflow_has_a_history() -> None:
    recorded = {path.stem.split(".")[0] for path in HISTORIES}
    assert recorded == {workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS}


@workflow.defn(name="ModelEvaluation", sandboxed=False)
class BrokenEvaluation:
    """What a careless change looks like: one more command before the activity."""

    @workflow.run
    async def run(self, request: EvaluateRequest) -> EvaluateResult:
        await asyncio.sleep(1)
        raise AssertionError("a replay does not get here")


async def test_a_breaking_change_is_noticed() -> None:
    recorded = next(path for path in HISTORIES if path.stem.startswith("ModelEvaluation"))
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[BrokenEvaluation], data_converter=DATA_CONVERTER).replay_workflow(history(recorded))
