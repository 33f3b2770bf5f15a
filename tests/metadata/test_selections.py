"""What people said, as rows: kept once, traced from the model that asked to the model that learned, and found by later runs."""

from __future__ import annotations

import pytest

from perdure.errors import Conflict
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata.queries import lineage
from perdure.metadata.repository import SelectionRows
from perdure.ports import Run, StepRun
from tests.metadata.world import World, as_json, dataset_result, ref


def said(world: World, run: Run, name: str, round: int = 0) -> StepRun:
    """A round of questions about the run's model, and what came of it."""
    model = world.model(run, f"predictor of {run.workflow_id}")
    result: Json = {"tasks": 100, "asked": 100, "reason": "every task has its label", "snapshot": as_json(ref(name, "labels"))}
    return SelectionRows(world.database).commit(
        world.step(run, StepKind.LABEL, round).id,
        model_version=model.id,
        dataset_version=model.dataset_version,
        tasks=ref(f"tasks of {name}", "tasks"),
        snapshot=ref(name, "labels"),
        result=result,
        reason="",
    )


def test_what_was_said_is_kept_once(world: World) -> None:
    run = world.run()
    first = said(world, run, "labels")
    before = world.rows()
    assert said(world, run, "labels") == first
    assert world.rows() == before
    assert first.state == "succeeded"


def test_a_step_that_has_ended_takes_nothing(world: World) -> None:
    run = world.run()
    model = world.model(run)
    step = world.step(run, StepKind.LABEL)
    world.runs.close(run.id, RunState.CANCELLED, {"type": "Cancelled", "message": "", "field": None, "remedy": None})
    with pytest.raises(Conflict, match="has ended as cancelled"):
        SelectionRows(world.database).commit(
            step.id,
            model_version=model.id,
            dataset_version=model.dataset_version,
            tasks=ref("tasks", "tasks"),
            snapshot=ref("labels", "labels"),
            result={},
            reason="",
        )


def test_lineage_leads_from_the_model_that_learned_to_the_model_that_asked(world: World) -> None:
    run = world.run()
    said(world, run, "labels")
    result = dataset_result("second manifest") | {"labels": [as_json(ref("labels", "labels"))]}
    result["rows"] = result["rows"] | {"pool": 900, "labeled": 100}
    dataset = world.datasets.commit(world.step(run, StepKind.PREPARE, 1).id, "moderation", result, "")
    assert (dataset.pool_rows, dataset.labeled_rows) == (900, 100)
    learned = {"predictor": as_json(ref("second")), "rounds": 200}
    version = world.models.commit(world.step(run, StepKind.TRAIN, 1).id, "moderation", dataset.id, learned, "")
    edges = {(edge["role"], edge["sha256"]) for edge in lineage(world.database, "moderation", version.number).artifacts}
    asked = ref(f"predictor of {run.workflow_id}")
    assert {
        ("labels", ref("labels").sha256),
        ("tasks", ref("tasks of labels").sha256),
        ("model", asked.sha256),
        ("dataset", ref("manifest.json").sha256),
    } <= edges


def test_later_runs_know_what_was_said_before(world: World) -> None:
    first, second, third = (world.run(key) for key in "123")
    said(world, first, "one")
    said(world, first, "two", round=1)
    said(world, second, "three")
    said(world, second, "one", round=1)  # from the cache
    nobody = world.step(third, StepKind.LABEL)
    world.steps.finish(nobody.id, {"tasks": 0, "asked": 0, "reason": "every row has a label"})
    known = [each.uri.rpartition("/")[2] for each in world.datasets.said_before("moderation", third.id)]
    assert known == ["one", "two", "three"]
    assert [each.sha256 for each in world.datasets.said_before("moderation", second.id)] == [ref("one").sha256, ref("two").sha256]
    assert world.datasets.said_before("another", third.id) == []
