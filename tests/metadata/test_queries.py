from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta

import pytest

from perdure.errors import InvalidInput, NotFound, UserCodeError
from perdure.messages.jobs import Checkpoint
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.promotion import VoteDecision
from perdure.metadata.queries import lineage, list_models, list_pipelines, list_runs, show_model, show_run
from tests.metadata.world import SPEC, World, dataset_result, ref


def test_runs_are_listed_newest_first_and_filtered(world: World) -> None:
    first, second = world.run("1"), world.run("2", requested_by="ann")
    other = world.run("1", spec={**SPEC, "name": "other"})
    world.step(second)
    world.steps.report(world.step(second).id, {"round": 3}, waiting_for="Ray")
    world.runs.close(first.id, RunState.FAILED, UserCodeError("boom", remedy="mend it").as_dict())
    db = world.database
    assert [run.workflow_id for run in list_runs(db)] == [other.workflow_id, second.workflow_id, first.workflow_id]
    assert [run.id for run in list_runs(db, limit=1)] == [other.id]
    assert [run.id for run in list_runs(db, pipeline="other")] == [other.id]
    assert [run.id for run in list_runs(db, state="live", pipeline="moderation")] == [second.id]
    [failed] = list_runs(db, state="failed")
    assert failed.error is not None
    assert failed.error["remedy"] == "mend it"
    [running] = list_runs(db, pipeline="moderation", state="running")
    assert (running.step, running.detail, running.waiting_for, running.requested_by) == (StepKind.TRAIN, {"round": 3}, "Ray", "ann")
    assert list_runs(db, pipeline="other")[0].step is None
    with pytest.raises(InvalidInput, match="one of live, running"):
        list_runs(db, state="dead")


@pytest.mark.parametrize("short", [False, True])
def test_a_run_is_found_by_any_unambiguous_name(world: World, short: bool) -> None:
    run, other = world.run("2026-11-22"), world.run("2026-11-23")
    names = ["moderation/2026-11-22", "run/moderation/2026-11-22", str(run.id), str(run.id).upper()]
    prefixes = [str(run.id)[:13]]
    for name in prefixes if short else names:
        assert show_run(world.database, name).run.id == run.id
    world.run("2026-11-22/again")
    assert show_run(world.database, "moderation/2026-11-22").run.id == run.id, "an exact name is not a prefix"
    with pytest.raises(InvalidInput, match=other.workflow_id):
        show_run(world.database, "moderation/2026")
    with pytest.raises(InvalidInput):
        show_run(world.database, "")
    for name in ("nothing", "%", "run/modera_ion"):
        with pytest.raises(NotFound, match="the newest are run/moderation"):
            show_run(world.database, name)


def test_a_run_shows_everything_that_is_known_of_it(world: World) -> None:
    run = world.run(requested_by="ann")
    prepare = world.step(run, StepKind.PREPARE)
    for index in range(3):
        world.datasets.record_partition(prepare.id, "partition", index, {"index": index})
    world.datasets.commit(prepare.id, "moderation", dataset_result(), "miss: new")
    train = world.step(run)
    world.steps.next_submission(train.id, "train", 1)
    world.steps.end_submission(train.id, "train", 1, "lost", None, "node gone", 20)
    world.steps.next_submission(train.id, "train", 2)
    world.models.record_checkpoint(train.id, 1, Checkpoint(key="e1/c20", round=20))
    world.models.record_metrics(train.id, [(round, {"auc": round / 100, "loss": 0.5}) for round in range(25)])
    world.runs.command(run.id, "pause", "u1", "ben", "lunch")
    promotion = world.promotion(run, required=1)
    evidence = promotion.evaluation.evidence_sha256
    detail = show_run(world.database, "moderation/1")
    assert [(step.step, step.state) for step in detail.steps] == [
        ("prepare", "succeeded"),
        ("train", "succeeded"),
        ("evaluate", "succeeded"),
        ("promote", "running"),
    ]
    shown = {step.step: step for step in detail.steps}
    assert shown[StepKind.PREPARE].partitions == {"partition": 3}
    assert [(s["number"], s["state"], s["round"]) for s in shown[StepKind.TRAIN].submissions] == [(1, "lost", 20), (2, "open", None)]
    assert [(c["epoch"], c["round"]) for c in shown[StepKind.TRAIN].checkpoints] == [(1, 20)]
    assert (shown[StepKind.TRAIN].metrics_round, shown[StepKind.TRAIN].metrics) == (24, {"auc": 0.24, "loss": 0.5})
    assert (detail.model, detail.version, detail.metrics["roc_auc"], detail.verdicts[0]["reason"]) == (
        "moderation",
        1,
        0.98,
        "roc_auc is 0.98",
    )
    assert (detail.git_commit, detail.code_sha256) == ("a1b2c3", ref("code.zip", "code").sha256)
    assert detail.promotion is not None
    assert (detail.promotion.approval, detail.promotion.required, detail.promotion.evidence_sha256) == ("open", 1, evidence)
    assert detail.release is None
    world.promotions.vote(promotion.id, VoteDecision.APPROVE, "ann", "fine", evidence, "http")
    world.promotions.close(promotion.id, release=True, reason="approved by ann", actor="perdure")
    detail = show_run(world.database, str(run.id))
    assert detail.promotion is not None
    assert (detail.promotion.state, detail.promotion.votes[0]["actor"]) == ("released", "ann")
    assert detail.release is not None
    assert (detail.release["version"], detail.release["until"], detail.release["votes"][0]["reason"]) == (1, None, "fine")
    assert [(c["actor"], c["action"]) for c in detail.commands] == [
        ("ben", "run.pause"),
        ("ann", "promotion.approve"),
        ("perdure", "promotion.release"),
    ]
    assert json.loads(json.dumps(asdict(detail), default=str))["run"]["workflow_id"] == "run/moderation/1"


def test_a_run_from_the_cache_shows_what_it_used(world: World) -> None:
    origin = world.run("1")
    version = world.model(origin)
    run = world.run("2")
    train = world.steps.step(world.step(origin).id)
    world.steps.finish(world.step(run).id, train.result or {}, "hit: …")
    detail = show_run(world.database, "moderation/2")
    assert (detail.version, detail.predictor_sha256) == (1, version.predictor.sha256)


def test_models_and_their_versions(world: World) -> None:
    assert list_models(world.database) == []
    first = world.released("1")
    second = world.released("2", champion=first)
    world.model(world.run("3"))
    world.model(world.run("4"), model="another")
    another, moderation = list_models(world.database)
    assert (another.model, another.versions, another.newest, another.serves) == ("another", 1, 1, None)
    assert (moderation.versions, moderation.newest, moderation.serves, moderation.released_by) == (3, 3, 2, "perdure")
    detail = show_model(world.database, "moderation")
    assert [(v.number, v.serves, v.passed, v.run) for v in detail.versions] == [
        (3, False, None, "run/moderation/3"),
        (2, True, True, "run/moderation/2"),
        (1, False, True, "run/moderation/1"),
    ]
    assert detail.versions[1].id == second.id
    assert detail.versions[1].dataset == "moderation/1"
    assert [(r["version"], r["until"] is None) for r in detail.releases] == [(2, True), (1, False)]
    with pytest.raises(NotFound, match="one of another, moderation"):
        show_model(world.database, "nothing")


def test_the_questions_have_answers_as_of_any_time(world: World) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    now = lineage(world.database, "moderation")
    assert (now.number, now.origin["run"], now.releases[0]["actor"]) == (2, "run/moderation/2", "perdure")
    since = now.releases[0]["since"]
    before = lineage(world.database, "moderation", at=since - timedelta(microseconds=1))
    assert (before.number, before.releases[0]["until"]) == (1, None)
    start = lineage(world.database, "moderation", at=before.releases[0]["since"])
    assert [event["kind"] for event in start.events] == ["trained", "evaluated", "released"]
    then = show_model(world.database, "moderation", since - timedelta(microseconds=1))
    assert ([each.number for each in then.versions if each.serves], [row["until"] for row in then.releases]) == ([1], [None])
    assert show_model(world.database, "moderation", since - timedelta(days=1)).versions == []
    assert lineage(world.database, "moderation", at=since).number == 2
    after = lineage(world.database, "moderation", 1)
    assert (after.releases[0]["until"], after.events[-1]["kind"]) == (since, "retired")
    with pytest.raises(NotFound, match="no version of 'moderation' served at"):
        lineage(world.database, "moderation", at=since - timedelta(days=1))
    world.model(world.run("3"), model="other")
    with pytest.raises(NotFound, match="no version of model 'other' is released"):
        lineage(world.database, "other")
    with pytest.raises(NotFound, match="has no version 9"):
        lineage(world.database, "moderation", 9)
    origin = lineage(world.database, "moderation", 2).origin
    assert (origin["pipeline"], origin["pipeline_version"], origin["git_commit"]) == ("moderation", 1, "a1b2c3")
    assert (origin["dataset"], origin["dataset_version"], origin["source"]["bytes"]) == ("moderation", 1, 477_907)
    assert (origin["code_sha256"], origin["train"]["params"]["rounds"]) == (ref("code.zip", "code").sha256, 200)
    assert origin["predictor_sha256"] == second.predictor.sha256


def test_lineage_names_every_artifact_on_the_way(world: World) -> None:
    world.model(world.run())
    found = lineage(world.database, "moderation", 1)
    assert {(edge["role"], edge["kind"]) for edge in found.artifacts} == {
        ("dataset", "manifest"),
        ("code", "code"),
        ("source", "source"),
        ("transform_state", "transform_state"),
    }
    assert len(found.artifacts) == 5, "the code made both the dataset and the model"
    assert [event["kind"] for event in found.events] == ["trained"]


def test_the_environment_of_a_training_is_in_its_origin(world: World) -> None:
    run = world.run()
    world.steps.claim(world.step(run).id, "key", use_cache=True, components={"environment": {"xgboost": "3.2.0"}})
    world.model(run)
    assert lineage(world.database, "moderation", 1).origin["environment"] == {"xgboost": "3.2.0"}


def test_pipelines_are_listed_with_their_last_run(world: World) -> None:
    assert list_pipelines(world.database) == []
    world.run("1")
    last = world.run("2")
    world.runs.close(last.id, RunState.SUCCEEDED, None)
    world.runs.apply({**SPEC, "name": "fresh"}, "sha", None, None, "ben")
    fresh, moderation = list_pipelines(world.database)
    assert (fresh.name, fresh.runs, fresh.last_run, fresh.applied_by) == ("fresh", 0, None, "ben")
    assert (moderation.runs, moderation.last_run, moderation.last_state, moderation.number) == (2, "run/moderation/2", "succeeded", 1)
