from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import select

from perdure.errors import Conflict, NotFound
from perdure.messages.jobs import Checkpoint
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from tests.metadata.together import together
from tests.metadata.world import World, as_json, ref


def test_versions_are_numbered_without_gaps_by_many_at_once(world: World) -> None:
    runs = [world.run(str(n)) for n in range(8)]
    versions = together([lambda run=run: world.model(run, f"predictor {run.id}") for run in runs])
    assert sorted(version.number for version in versions) == list(range(1, 9))
    assert world.model(world.run("9"), model="other").number == 1


def test_a_training_step_makes_one_version(world: World) -> None:
    run = world.run()
    dataset, step = world.dataset(run), world.step(run)
    result = {"rounds": 200, "metrics": {"auc": 0.99}}
    versions = together(
        [
            lambda n=n: world.models.commit(
                step.id, "moderation", dataset.id, {**result, "predictor": as_json(ref(f"predictor {n}"))}, f"attempt {n}"
            )
            for n in range(6)
        ]
    )
    assert len({version.id for version in versions}) == len({version.predictor for version in versions}) == 1
    assert len(world.rows()["model_version"]) == 1
    ended = world.steps.step(step.id)
    assert ended.result is not None
    assert (ended.state, ended.result["model_version"], ended.result["version"]) == ("succeeded", str(versions[0].id), 1)


def test_a_cancelled_training_makes_no_version(world: World) -> None:
    run = world.run()
    dataset, step = world.dataset(run), world.step(run)
    world.runs.close(run.id, RunState.CANCELLED, None)
    before = world.rows()
    with pytest.raises(Conflict, match="has ended as cancelled"):
        world.models.commit(step.id, "moderation", dataset.id, {"predictor": as_json(ref("late"))}, "")
    assert world.rows() == before


def test_checkpoints_and_metrics_are_copied_once(world: World) -> None:
    run = world.run()
    step = world.step(run)
    first = Checkpoint(key="e1/c20", round=20, metrics={"auc": 0.9}, files={"model.ubj": "ab"})
    together([lambda: world.models.record_checkpoint(step.id, 1, first)] * 4)
    world.models.record_checkpoint(step.id, 2, Checkpoint(key="e2/c20", round=20))
    together([lambda: world.models.record_metrics(step.id, [(2, {"auc": 0.6}), (1, {"auc": 0.5})])] * 4)
    world.models.record_metrics(step.id, [(2, {"auc": 0.1}), (3, {"auc": 0.7})])
    with world.database.transaction() as session:
        checkpoints = session.scalars(select(t.Checkpoint).where(t.Checkpoint.step_run_id == step.id).order_by(t.Checkpoint.epoch)).all()
        metrics = select(t.Metric.round, t.Metric.value).where(t.Metric.step_run_id == step.id, t.Metric.name == "auc")
        assert [(row.epoch, row.key) for row in checkpoints] == [(1, "e1/c20"), (2, "e2/c20")]
        assert [tuple(row) for row in session.execute(metrics.order_by(t.Metric.round))] == [(1, 0.5), (2, 0.6), (3, 0.7)]
    world.runs.close(run.id, RunState.CANCELLED, None)
    before = world.rows()
    world.models.record_checkpoint(step.id, 1, Checkpoint(key="e1/c40", round=40))
    world.models.record_metrics(step.id, [(4, {"auc": 0.8})])
    assert world.rows() == before, "the copies of a watcher that was overtaken are dropped"


def test_versions_are_found_and_refusals_name_what_exists(world: World) -> None:
    with pytest.raises(NotFound, match="no model was trained yet"):
        world.models.find("moderation")
    first = world.released("1")
    second = world.model(world.run("2"))
    assert world.models.find("moderation") == world.models.champion("moderation") == world.models.version(first.id) == first
    assert world.models.find("moderation", 2) == second
    assert world.models.champion("nothing") is None
    with pytest.raises(NotFound, match="one of its versions: 1, 2"):
        world.models.find("moderation", 3)
    with pytest.raises(NotFound, match="one of moderation"):
        world.models.find("moderatoin")
    world.model(world.run("3"), model="unreleased")
    with pytest.raises(NotFound, match="no version of model 'unreleased' is released"):
        world.models.find("unreleased")
    with pytest.raises(NotFound):
        world.models.version(uuid4())


def test_an_evaluation_is_stored_with_all_its_figures(world: World) -> None:
    run = world.run()
    version = world.model(run)
    evaluation = world.evaluation(run, version)
    assert (evaluation.passed, evaluation.metrics, evaluation.champion_version) == (True, {"roc_auc": 0.98, "log_loss": 0.05}, None)
    assert [verdict.reason for verdict in evaluation.verdicts] == ["roc_auc is 0.98"]
    with world.database.transaction() as session:
        rows = session.scalars(select(t.EvaluationMetric).where(t.EvaluationMetric.evaluation_id == evaluation.id)).all()
    figures = {(row.subject, row.slice_column, row.slice_value, row.name): (row.value, row.rows) for row in rows}
    assert figures == {
        ("challenger", "", "", "roc_auc"): (0.98, 20),
        ("challenger", "", "", "log_loss"): (0.05, 20),
        ("challenger", "length", "short", "roc_auc"): (None, 7),
        ("challenger", "length", "short", "log_loss"): (0.1, 7),
    }
    assert world.step(run, StepKind.EVALUATE).state == "succeeded"


def test_one_failed_gate_fails_the_evaluation_and_the_first_one_stays(world: World) -> None:
    run = world.run()
    version = world.model(run)
    refused = world.evaluation(run, version, passed=False)
    assert not refused.passed
    assert world.evaluation(run, version, passed=True) == refused
