from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from perdure.errors import Conflict, InvalidInput, NotFound
from perdure.keys import digest
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from tests.metadata.together import together
from tests.metadata.world import SPEC, World, ref


def apply(world: World, content: str, code: str | None = None) -> tuple[int, str]:
    version = world.runs.apply({**SPEC, "owner": content}, digest(content), ref(code, "code") if code else None, None, "ann")
    return version.number, version.sha256


def test_new_content_is_a_new_version_and_old_content_the_old_one(world: World) -> None:
    first, second, with_code = apply(world, "a"), apply(world, "b"), apply(world, "b", "code.zip")
    assert [number for number, _ in (first, second, with_code)] == [1, 2, 3]
    assert world.runs.pipeline("moderation").number == 3
    assert apply(world, "a") == first
    newest = world.runs.pipeline("moderation")
    assert (newest.number, newest.spec["owner"]) == (1, "a"), "applying it again makes it the newest"
    assert world.runs.pipeline("moderation", with_code[1][:10]).code == ref("code.zip", "code")


def test_versions_are_numbered_without_gaps_by_many_at_once(world: World) -> None:
    outcomes = together([lambda content=str(n): apply(world, content) for n in range(8)])
    assert sorted(number for number, _ in outcomes) == list(range(1, 9))


def test_what_does_not_exist_is_told_with_what_does(world: World) -> None:
    with pytest.raises(NotFound, match="perdure apply"):
        world.runs.pipeline("moderation")
    _, first = apply(world, "a")
    apply(world, "b")
    with pytest.raises(NotFound, match="one of moderation"):
        world.runs.pipeline("moderatoin")
    with pytest.raises(NotFound, match=first[:12]):
        world.runs.pipeline("moderation", "nope")
    with pytest.raises(NotFound):
        world.runs.pipeline("moderation", "%")
    with pytest.raises(InvalidInput, match="several versions"):
        world.runs.pipeline("moderation", "")
    with pytest.raises(NotFound):
        world.runs.run(uuid4())


def test_a_run_knows_its_request(world: World) -> None:
    run = world.run(cache=False, recompute_from="train", requested_by="ann", params={"rounds": 3})
    assert (run.cache, run.recompute_from, run.requested_by) == (False, StepKind.TRAIN, "ann")
    assert (run.state, run.paused, run.pipeline.name, run.pipeline.code) == (RunState.RUNNING, False, "moderation", ref("code.zip", "code"))
    assert world.run("2").recompute_from is None


def test_a_second_chain_is_refused_whoever_comes_first(world: World) -> None:
    world.run("warm up")
    outcomes = together([lambda chain=f"chain {n}": world.run("1", chain=chain) for n in range(4)])
    refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert len(refused) == 3
    assert all("new workflow id" in (err.remedy or "") for err in refused)
    assert len(world.runs.live()) == 2


def test_a_closed_run_takes_its_running_steps_with_it(world: World) -> None:
    run = world.run()
    done, running = world.step(run, StepKind.PREPARE), world.step(run, StepKind.TRAIN)
    world.steps.finish(done.id, {"ok": True})
    error = {"type": "UserCodeError", "message": "boom", "field": None, "remedy": "mend it"}
    world.runs.close(run.id, RunState.FAILED, error)
    closed = world.runs.run(run.id)
    assert (closed.state, closed.error) == (RunState.FAILED, error)
    assert world.steps.step(done.id).state == "succeeded"
    assert (world.steps.step(running.id).state, world.detail(running.id).error) == ("failed", error)
    assert world.runs.live() == []
    with pytest.raises(Conflict, match="has ended as failed"):
        world.runs.close(run.id, RunState.SUCCEEDED, None)


def test_a_terminated_run_leaves_its_jobs_as_orphans(world: World) -> None:
    run = world.run()
    step = world.step(run)
    world.steps.next_submission(step.id, "train", 1)
    assert world.steps.orphans() == []
    world.runs.close(run.id, RunState.TERMINATED, None)
    [orphan] = world.steps.orphans()
    assert orphan.job_id == f"perdure-{step.id}-train-1"
    world.steps.end_submission(orphan.step_run, orphan.name, orphan.number, "stopped", None, "", None)
    assert world.steps.orphans() == []


def test_commands_are_obeyed_once_and_audited(world: World) -> None:
    run = world.run()
    assert world.runs.command(run.id, "pause", "u1", "ann", "lunch").paused
    assert not world.runs.command(run.id, "resume", "u2", "ben", "").paused
    assert not world.runs.command(run.id, "pause", "u1", "ann", "lunch").paused, "a repeated command is not obeyed again"
    assert world.runs.command(run.id, "cancel", "u3", "ann", "wrong data").state is RunState.RUNNING, "its workflow ends it"
    commands = [(row[3], row[4], row[7]) for row in world.rows()["audit"] if row[4].startswith("run.")]
    assert sorted(commands) == [("ann", "run.cancel", "wrong data"), ("ann", "run.pause", "lunch"), ("ben", "run.resume", "")]
    with pytest.raises(InvalidInput, match="pause, resume, cancel"):
        world.runs.command(run.id, "explode", "u4", "ann", "")
    with pytest.raises(NotFound):
        world.runs.command(uuid4(), "pause", "u5", "ann", "")


def test_a_command_that_comes_too_late_changes_nothing(world: World) -> None:
    run = world.run()
    world.runs.command(run.id, "pause", "u1", "ann", "")
    world.runs.close(run.id, RunState.CANCELLED, None)
    before = world.rows()
    with pytest.raises(Conflict, match="has ended as cancelled"):
        world.runs.command(run.id, "resume", "u2", "ann", "")
    assert world.rows() == before
    assert world.runs.command(run.id, "pause", "u1", "ann", "").state is RunState.CANCELLED, "its answer may be asked for again"


def test_a_reset_makes_the_run_live_again(world: World) -> None:
    run = world.run()
    world.step(run)
    world.runs.close(run.id, RunState.FAILED, {"message": "boom"})
    assert world.step(run).state == "running"
    again = world.runs.run(run.id)
    assert (again.state, again.error) == (RunState.RUNNING, None)
    world.runs.close(run.id, RunState.SUCCEEDED, None)
    assert world.run().state is RunState.SUCCEEDED, "a run that succeeded stays so"
    other = world.run("2")
    world.runs.close(other.id, RunState.TERMINATED, None)
    assert world.run("2").state is RunState.RUNNING


def test_an_attempt_that_slept_past_the_end_changes_nothing(world: World) -> None:
    run = world.run()
    scheduled = datetime.now(UTC)
    world.step(run)
    world.runs.close(run.id, RunState.FAILED, {"message": "boom"})
    world.step(run, StepKind.PREPARE)  # a reset: the run is live again
    with pytest.raises(Conflict, match="since this attempt was scheduled"):
        world.steps.begin(run.id, 0, StepKind.TRAIN, scheduled)
    world.runs.close(run.id, RunState.CANCELLED, None)
    before = world.rows()
    for step in (StepKind.TRAIN, StepKind.EVALUATE):
        with pytest.raises(Conflict, match="since this attempt was scheduled"):
            world.steps.begin(run.id, 0, step, scheduled)
    with pytest.raises(Conflict, match="since this attempt was scheduled"):
        world.runs.open(workflow_id=run.workflow_id, chain="first", pipeline=run.pipeline.id, spec=SPEC, request={}, scheduled=scheduled)
    assert world.rows() == before
    assert world.steps.begin(run.id, 0, StepKind.TRAIN, datetime.now(UTC) + timedelta(seconds=1)).state == t.StepState.RUNNING
