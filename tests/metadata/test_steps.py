from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import func, update

from perdure.errors import Conflict, NotFound
from perdure.keys import identity
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from tests.metadata.together import together
from tests.metadata.world import World


def test_a_step_run_has_one_identity(world: World) -> None:
    run = world.run()
    steps = together([lambda: world.step(run)] * 6)
    assert {step.id for step in steps} == {identity(run.id, 0, StepKind.TRAIN)}
    assert world.step(run, round=1).id != steps[0].id
    with pytest.raises(NotFound):
        world.steps.begin(uuid4(), 0, StepKind.TRAIN)
    with pytest.raises(NotFound):
        world.steps.step(uuid4())


def test_a_result_is_recorded_once(world: World) -> None:
    step = world.step(world.run())
    outcomes = together([lambda n=n: world.steps.finish(step.id, {"winner": n}, f"attempt {n}") for n in range(4)])
    won = [outcome for outcome in outcomes if not isinstance(outcome, Conflict)]
    assert len(won) == 1
    assert world.steps.step(step.id) == won[0]
    world.runs.close(step.run_id, RunState.FAILED, {"message": "late"})
    assert world.steps.step(step.id).state == "succeeded"
    assert world.step(world.runs.run(step.run_id)).result == won[0].result, "it is not opened again"


def test_a_result_waits_for_one_that_is_being_committed(world: World) -> None:
    step = world.step(world.run())
    with ThreadPoolExecutor(1) as pool:
        with world.database.transaction() as session:
            first = {"state": "succeeded", "result": {"winner": "first"}, "finished_at": func.now()}
            session.execute(update(t.StepRun).where(t.StepRun.id == step.id).values(**first))
            second = pool.submit(world.steps.finish, step.id, {"winner": "second"})
            with pytest.raises(TimeoutError):
                second.result(timeout=0.3)
        with pytest.raises(Conflict, match="succeeded with another result"):
            second.result(timeout=10)


def test_a_step_that_failed_takes_no_late_result(world: World) -> None:
    step = world.step(world.run())
    world.runs.close(step.run_id, RunState.FAILED, {"message": "boom"})
    world.runs.close(step.run_id, RunState.FAILED, {"message": "boom again"})
    assert world.detail(step.id).error == {"message": "boom"}
    with pytest.raises(Conflict, match="has ended as failed"):
        world.steps.finish(step.id, {"late": True})


def test_progress_is_merged_and_waiting_has_a_beginning(world: World) -> None:
    run = world.run()
    step = world.step(run)
    assert world.steps.report(step.id, {"round": 20, "rounds": 200}).id == run.id
    world.steps.report(step.id, {"job": "running"}, waiting_for="Ray")
    since = world.detail(step.id).waiting_since
    time.sleep(0.01)
    world.steps.report(step.id, {}, waiting_for="Ray")
    row = world.detail(step.id)
    assert (row.detail, row.waiting_for, row.waiting_since) == ({"round": 20, "rounds": 200, "job": "running"}, "Ray", since)
    world.steps.report(step.id, {}, waiting_for="S3")
    assert world.detail(step.id).waiting_since > since
    world.steps.report(step.id, {"round": 21})
    row = world.detail(step.id)
    assert (row.detail["round"], row.waiting_for, row.waiting_since) == (21, None, None)


def test_a_report_tells_what_people_want(world: World) -> None:
    run = world.run()
    step = world.step(run)
    world.runs.command(run.id, "pause", "u1", "ann", "")
    assert world.steps.report(step.id, {}).paused
    world.runs.close(run.id, RunState.CANCELLED, None)
    before = world.rows()
    assert world.steps.report(step.id, {"round": 99}).state is RunState.CANCELLED
    assert world.rows() == before, "a watcher that was overtaken changes nothing"
    with pytest.raises(NotFound):
        world.steps.report(uuid4(), {})


def test_one_attempt_submits_and_the_others_attach(world: World) -> None:
    step = world.step(world.run())
    assert world.steps.submission(step.id, "train") is None
    rows = together([lambda: world.steps.next_submission(step.id, "train", 1)] * 6)
    assert {row.job_id for row in rows} == {f"perdure-{step.id}-train-1"}
    world.steps.end_submission(step.id, "train", 1, "lost", None, "node gone", 40)
    world.steps.end_submission(step.id, "train", 1, "succeeded", 0, "late", 60)
    second = world.steps.next_submission(step.id, "train", 2)
    world.steps.next_submission(step.id, "other", 1)
    assert [(row.number, row.state, row.round) for row in world.steps.submissions(step.id, "train")] == [(1, "lost", 40), (2, "open", None)]
    assert world.steps.submission(step.id, "train") == second


def test_a_late_attempt_starts_no_job(world: World) -> None:
    run = world.run()
    step = world.step(run)
    first = world.steps.next_submission(step.id, "train", 1)
    world.runs.close(run.id, RunState.CANCELLED, None)
    with pytest.raises(Conflict, match="has ended"):
        world.steps.next_submission(step.id, "train", 2)
    assert world.steps.next_submission(step.id, "train", 1).job_id == first.job_id
