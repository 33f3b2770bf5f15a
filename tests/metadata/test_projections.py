from __future__ import annotations

import math

from sqlalchemy import select

from perdure.messages.pipeline import RunState
from perdure.metadata import tables as t
from perdure.ports import PendingMetrics
from tests.metadata.world import World


def push_runs(world: World) -> None:
    for run in world.projections.runs():
        world.projections.pushed("run", run.id, run.digest, f"mlflow of {run.workflow_id}")


def push_versions(world: World) -> None:
    for pending in world.projections.versions():
        world.projections.pushed("model_version", pending.version.id, pending.digest, str(pending.version.number))


def test_a_run_is_pending_until_its_state_was_pushed(world: World) -> None:
    run = world.run(requested_by="ann")
    [pending] = world.projections.runs()
    assert (pending.id, pending.pipeline, pending.model, pending.state) == (run.id, "moderation", "moderation", RunState.RUNNING)
    assert (pending.params, pending.external_id) == ({"rounds": 200, "max_depth": 6}, None)
    assert pending.tags["perdure.requested_by"] == "ann"
    push_runs(world)
    assert world.projections.runs() == []
    world.runs.close(run.id, RunState.SUCCEEDED, None)
    [pending] = world.projections.runs()
    assert (pending.state, pending.external_id) == (RunState.SUCCEEDED, "mlflow of run/moderation/1")
    assert pending.finished_at is not None
    world.projections.pushed("run", run.id, pending.digest)
    assert world.projections.runs() == []
    second = world.run("2")
    assert [pending.workflow_id for pending in world.projections.runs(limit=1)] == ["run/moderation/2"]
    assert world.projections.runs(besides={second.id}) == []


def test_metrics_are_pushed_by_round_once_the_run_is_known(world: World) -> None:
    step = world.step(world.run())
    world.models.record_metrics(step.id, [(round, {"auc": round / 10, "loss": 0.1 + 0.2}) for round in range(3)])
    assert world.projections.metrics() == [], "MLflow does not know the run"
    push_runs(world)

    def pending(limit: int = 1000) -> PendingMetrics | None:
        found = world.projections.metrics(limit)
        if not found:
            return None
        world.projections.pushed("metric", found[0].step_run, found[0].digest)
        return found[0]

    first = pending(limit=2)
    assert first is not None
    assert (first.step_run, first.external_run) == (step.id, "mlflow of run/moderation/1")
    assert [(round, values) for round, values, _ in first.rounds] == [
        (0, {"auc": 0.0, "loss": 0.1 + 0.2}),
        (1, {"auc": 0.1, "loss": 0.1 + 0.2}),
    ]
    second = pending()
    assert second is not None
    assert [round for round, _, _ in second.rounds] == [2]
    assert pending() is None
    world.models.record_metrics(step.id, [(3, {"auc": float("nan")})])
    third = pending()
    assert third is not None
    assert math.isnan(third.rounds[0][1]["auc"])


def test_a_version_is_pending_whenever_something_happened_to_it(world: World) -> None:
    run = world.run()
    promotion = world.promotion(run)
    assert world.projections.versions() == [], "MLflow does not know the run"
    push_runs(world)
    [pending] = world.projections.versions()
    assert (pending.version.id, pending.external_run, pending.external_id) == (promotion.model_version, "mlflow of run/moderation/1", None)
    assert (pending.metrics, pending.events) == ({"roc_auc": 0.98, "log_loss": 0.05}, ["trained", "evaluated"])
    assert (pending.tags["run"], pending.tags["pipeline"], pending.tags["git_commit"]) == ("run/moderation/1", "moderation/1", "a1b2c3")
    push_versions(world)
    assert world.projections.versions() == []
    world.promotions.close(promotion.id, release=True, reason="", actor="perdure")
    [pending] = world.projections.versions()
    assert (pending.events, pending.external_id) == (["trained", "evaluated", "released"], "1")


def test_only_the_open_release_is_pushed(world: World) -> None:
    first = world.released("1")
    assert world.projections.releases() == [], "MLflow does not know the version"
    push_runs(world)
    push_versions(world)
    [pending] = world.projections.releases()
    assert (pending.release.number, pending.external_version) == (1, "1")
    world.released("2", champion=first)
    push_runs(world)
    push_versions(world)
    [pending] = world.projections.releases()
    assert (pending.release.number, pending.external_version) == (2, "2"), "the first one is over: it was never pushed, and need not be"
    world.projections.pushed("release", pending.release.id, pending.digest)
    assert world.projections.releases() == []


def test_what_mlflow_should_say_of_a_model(world: World) -> None:
    run = world.run()
    promotion = world.promotion(run)
    assert world.projections.expected(["moderation"]) == [], "MLflow knows nothing of it"
    push_runs(world)
    push_versions(world)
    assert [(each.model, each.external) for each in world.projections.expected(["moderation"])] == [("moderation", None)], (
        "nothing is released"
    )
    assert world.projections.models() == ["moderation"]
    world.promotions.close(promotion.id, release=True, reason="", actor="perdure")
    assert world.projections.expected(["moderation"]) == [], "something is still to be pushed"
    push_versions(world)
    assert world.projections.expected(["moderation"]) == []
    [pending] = world.projections.releases()
    world.projections.pushed("release", pending.release.id, pending.digest)
    [expected] = world.projections.expected(["moderation"])
    assert (expected.release, expected.external) == (pending.release.id, "1")
    assert (expected.tags["perdure.version"], expected.tags["perdure.events"]) == ("1", "trained, evaluated, released")
    assert world.projections.expected(["another"]) == []
    world.projections.repaired(expected, ["the alias champion names no version, not version 1", "and more"])
    with world.database.transaction() as session:
        [told] = session.scalars(select(t.Audit).where(t.Audit.action == "registry.repair"))
        assert told.object_id == pending.release.id
        assert told.reason == "the alias champion names no version, not version 1; and more"
    world.projections.forget("moderation")
    assert [each.id for each in world.projections.runs()] == [run.id]
    push_runs(world)
    assert [each.external_id for each in world.projections.versions()] == [None]
    push_versions(world)
    assert [each.release.id for each in world.projections.releases()] == [pending.release.id]
