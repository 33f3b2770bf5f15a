"""Every method may be called twice, and may lose its connection around COMMIT: the rows are those of one undisturbed call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from perdure.config import Settings
from perdure.errors import StoreUnavailable
from perdure.keys import digest
from perdure.messages.jobs import Checkpoint
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.promotion import VoteDecision
from perdure.metadata.database import Database
from perdure.ports import Verdict
from tests.metadata.conftest import as_tenant
from tests.metadata.proxy import Cut, Proxy
from tests.metadata.world import SPEC, World, as_json, components, dataset_result, figures, key_of, ref

Call = Callable[[], Any]
Case = Callable[[World], Call]


def apply(world: World) -> Call:
    world.runs.apply(SPEC, digest(SPEC), None, None, "ann")
    return lambda: world.runs.apply(SPEC, digest("another"), ref("code.zip", "code"), "a1b2c3", "ben")


def open_run(world: World) -> Call:
    version = world.runs.apply(SPEC, digest(SPEC), None, None, "ann")
    return lambda: world.runs.open(workflow_id="run/moderation/1", chain="c", pipeline=version.id, spec=SPEC, request={})


def close_run(world: World) -> Call:
    run = world.run()
    world.step(run)
    return lambda: world.runs.close(run.id, RunState.FAILED, {"type": "UserCodeError", "message": "boom"})


def command(name: str) -> Case:
    def case(world: World) -> Call:
        run = world.run()
        if name == "resume":
            world.runs.command(run.id, "pause", "c0", "ann", "")
        return lambda: world.runs.command(run.id, name, "c1", "ann", "because")

    return case


def begin(world: World) -> Call:
    run = world.run()
    return lambda: world.steps.begin(run.id, 0, StepKind.TRAIN)


def begin_after_failure(world: World) -> Call:
    run = world.run()
    world.step(run)
    world.runs.close(run.id, RunState.FAILED, {"message": "boom"})
    return lambda: world.steps.begin(run.id, 0, StepKind.TRAIN)


def claim(world: World) -> Call:
    step = world.step(world.run())
    return lambda: world.steps.claim(step.id, key_of(components()), use_cache=True, components=components())


def claim_hit(world: World) -> Call:
    first, second = world.step(world.run("1")), world.step(world.run("2"))
    world.steps.claim(first.id, key_of(components()), use_cache=True, components=components())
    world.steps.finish(first.id, {"model_version": "m"})
    return lambda: world.steps.claim(second.id, key_of(components()), use_cache=True, components=components())


def finish(world: World) -> Call:
    step = world.step(world.run())
    return lambda: world.steps.finish(step.id, {"x": 1.5, "nothing": None, "nan": float("nan"), "nul": "a\x00b"}, "done")


def next_submission(world: World) -> Call:
    step = world.step(world.run())
    return lambda: world.steps.next_submission(step.id, "train", 1)


def end_submission(world: World) -> Call:
    step = world.step(world.run())
    world.steps.next_submission(step.id, "train", 1)
    return lambda: world.steps.end_submission(step.id, "train", 1, "lost", None, "node \x00 gone", 40)


def record_partition(world: World) -> Call:
    step = world.step(world.run(), StepKind.PREPARE)
    return lambda: world.datasets.record_partition(step.id, "partition", 3, {"index": 3, "rows": 10})


def commit_dataset(world: World) -> Call:
    step = world.step(world.run(), StepKind.PREPARE)
    return lambda: world.datasets.commit(step.id, "moderation", dataset_result(), "miss: new")


def record_checkpoint(world: World) -> Call:
    step = world.step(world.run())
    checkpoint = Checkpoint(key="e1/c20", round=20, metrics={"auc": 0.9}, files={"model.ubj": digest("m")})
    return lambda: world.models.record_checkpoint(step.id, 1, checkpoint)


def record_metrics(world: World) -> Call:
    step = world.step(world.run())
    return lambda: world.models.record_metrics(step.id, [(round, {"auc": 0.9, "loss": 1 / (round + 1)}) for round in range(50)])


def commit_model(world: World) -> Call:
    run = world.run()
    dataset, step = world.dataset(run), world.step(run)
    result = {"predictor": as_json(ref("predictor.zip")), "rounds": 200, "metrics": {"auc": 0.99}}
    return lambda: world.models.commit(step.id, "moderation", dataset.id, result, "miss: new")


def commit_evaluation(world: World) -> Call:
    run = world.run()
    version, step = world.model(run), world.step(run, StepKind.EVALUATE)
    return lambda: world.models.commit_evaluation(
        step.id,
        model_version=version.id,
        dataset_version=version.dataset_version,
        champion=None,
        verdicts=[Verdict(gate={"metric": "roc_auc", "min": 0.95}, passed=True, reason="roc_auc is 0.98", value=0.98)],
        evidence_sha256=digest("evidence"),
        result={"figures": figures(), "scores": as_json(ref("scores.parquet", "reports"))},
        reason="",
    )


def open_promotion(world: World) -> Call:
    run = world.run()
    version = world.model(run)
    evaluation, step = world.evaluation(run, version), world.step(run, StepKind.PROMOTE)
    return lambda: world.promotions.open(step.id, version.id, evaluation.id, required=2, deadline_seconds=60)


def vote(world: World) -> Call:
    promotion = world.promotion(world.run(), required=1)
    evidence = promotion.evaluation.evidence_sha256
    return lambda: world.promotions.vote(promotion.id, VoteDecision.APPROVE, "ann", "looks good", evidence, "http")


def close_promotion(*, release: bool) -> Case:
    def case(world: World) -> Call:
        champion = world.released("first")
        promotion = world.promotion(world.run("second"), champion=champion)
        return lambda: world.promotions.close(promotion.id, release=release, reason="because", actor="ann")

    return case


def pushed(world: World) -> Call:
    run = world.run()
    return lambda: world.projections.pushed("run", run.id, "running", "mlflow-1")


CASES: dict[str, Case] = {
    "apply": apply,
    "open run": open_run,
    "close run": close_run,
    "pause": command("pause"),
    "resume": command("resume"),
    "cancel": command("cancel"),
    "begin": begin,
    "begin after a failure": begin_after_failure,
    "claim": claim,
    "claim with a hit": claim_hit,
    "finish": finish,
    "next submission": next_submission,
    "end submission": end_submission,
    "record partition": record_partition,
    "commit dataset": commit_dataset,
    "record checkpoint": record_checkpoint,
    "record metrics": record_metrics,
    "commit model": commit_model,
    "commit evaluation": commit_evaluation,
    "open promotion": open_promotion,
    "vote": vote,
    "release": close_promotion(release=True),
    "refuse": close_promotion(release=False),
}


@pytest.fixture(scope="module")
def proxy(migrated: Settings) -> Iterator[Proxy]:
    address = make_url(migrated.postgres.url)
    opened = Proxy(address.host or "", address.port or 0)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def behind_proxy(migrated: Settings, proxy: Proxy) -> Iterator[Database]:
    address = make_url(migrated.postgres.url).set(port=proxy.port).render_as_string()
    postgres = migrated.postgres.model_copy(update={"url": address})
    with Database.open(migrated.model_copy(update={"postgres": postgres})) as database:
        yield database


@pytest.fixture
def behind(behind_proxy: Database) -> World:
    """A world whose connections go through the proxy."""
    return World(as_tenant(behind_proxy))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_twice_is_once(world: World, case: Case) -> None:
    call = case(world)
    before = world.rows()
    first = call()
    after = world.rows()
    assert after != before, "the call does something"
    assert call() == first
    assert world.rows() == after


@pytest.mark.parametrize("cut", ["before COMMIT arrives", "before its answer"])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_connection_cut_around_commit_makes_no_second_row(behind: World, proxy: Proxy, case: Case, cut: Cut) -> None:
    call = case(behind)
    before, cuts = behind.rows(), proxy.cuts
    proxy.arm(cut)
    with pytest.raises(StoreUnavailable):
        call()
    assert proxy.cuts == cuts + 1
    stored = behind.rows()
    assert (stored == before) is (cut == "before COMMIT arrives"), "the cut is where the test says"
    first = call()
    after = behind.rows()
    assert after != before
    if cut == "before its answer":
        assert after == stored
    assert call() == first
    assert behind.rows() == after


def test_a_push_that_is_repeated_says_the_same_again(world: World) -> None:
    call = pushed(world)
    call()
    rows = [row[:-1] for row in world.rows()["projection"]]
    call()
    assert [row[:-1] for row in world.rows()["projection"]] == rows  # but for the time of the push
