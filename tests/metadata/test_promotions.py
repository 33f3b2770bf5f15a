from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update

from perdure.errors import Conflict, EvidenceChanged, InvalidInput, NotFound, VoteRefused
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.promotion import ApprovalState, VoteDecision
from perdure.metadata import tables as t
from perdure.metadata.queries.approvals import open_approvals
from perdure.ports import Promotion, Release
from tests.metadata.together import together
from tests.metadata.world import SPEC, World


def release(world: World, promotion: Promotion) -> Release | None:
    return world.promotions.close(promotion.id, release=True, reason="all gates passed", actor="perdure")


def vote(world: World, promotion: Promotion, actor: str, decision: str = "approve", channel: str = "http") -> ApprovalState:
    return world.promotions.vote(promotion.id, VoteDecision(decision), actor, "", promotion.evaluation.evidence_sha256, channel)


def asked(world: World, *, required: int = 1, **policy: object) -> Promotion:
    spec: Json = {**SPEC, "promote": {"approval": {"approvers": [], "cli": True, **policy}}}
    return world.promotion(world.run(spec=spec), required=required)


def intervals(world: World) -> list[t.Release]:
    with world.database.transaction() as session:
        return list(session.scalars(select(t.Release).where(t.Release.tenant == world.database.tenant).order_by(t.Release.since)))


def test_a_release_ends_the_one_before(world: World) -> None:
    first = world.released("1")
    second = world.promotion(world.run("2"), champion=first)
    opened = release(world, second)
    assert opened is not None
    assert (opened.model_version, opened.number, opened.until) == (second.model_version, 2, None)
    assert [(row.model_version_id, row.until) for row in intervals(world)] == [(first.id, opened.since), (second.model_version, None)]
    assert world.models.champion("moderation") == world.models.version(second.model_version)


def test_of_two_releases_at_once_one_wins(world: World) -> None:
    champion = world.released("0")
    promotions = [world.promotion(world.run(str(n)), champion=champion) for n in range(1, 6)]
    outcomes = together([lambda p=p: release(world, p) for p in promotions])
    won = [outcome for outcome in outcomes if isinstance(outcome, Release)]
    assert len(won) == 1
    refused = f"version {won[0].number} of 'moderation' serves now, but this version was compared with another"
    assert all(refused in str(outcome) for outcome in outcomes if not isinstance(outcome, Release))
    assert [row.until is None for row in intervals(world)] == [False, True]


def test_the_first_release_has_no_champion(world: World) -> None:
    promotions = [world.promotion(world.run(str(n))) for n in range(4)]
    outcomes = together([lambda p=p: release(world, p) for p in promotions])
    assert sum(isinstance(outcome, Release) for outcome in outcomes) == 1


def test_a_version_that_serves_is_not_released_again(world: World) -> None:
    first = world.released("1")
    run = world.run("2")  # all of it from the cache: the same version, compared with itself
    evaluation = world.evaluation(run, first, champion=first, passed=False)
    promotion = world.promotions.open(world.step(run, StepKind.PROMOTE).id, first.id, evaluation.id, required=0, deadline_seconds=1)
    opened = release(world, promotion)
    assert opened is not None
    assert opened.model_version == first.id
    assert release(world, promotion) == opened
    assert len(intervals(world)) == 1


def test_the_clock_may_go_back(world: World) -> None:
    champion = world.released("1")
    with world.database.transaction() as session:
        future = session.scalar(text("select now() + interval '1 hour'"))
        session.execute(update(t.Release).where(t.Release.tenant == world.database.tenant).values(since=future))
    opened = release(world, world.promotion(world.run("2"), champion=champion))
    assert opened is not None
    assert opened.since == future + timedelta(microseconds=1)


def test_what_missed_its_gates_is_not_released(world: World) -> None:
    promotion = world.promotion(world.run(), passed=False)
    with pytest.raises(Conflict, match="did not pass its gates"):
        release(world, promotion)
    assert world.promotions.close(promotion.id, release=False, reason="gates failed", actor="perdure") is None
    with pytest.raises(Conflict, match="was refused before: gates failed"):
        release(world, promotion)
    assert world.models.champion("moderation") is None
    with pytest.raises(NotFound):
        world.promotions.close(uuid4(), release=False, reason="", actor="ann")


def test_nothing_is_released_that_people_did_not_approve(world: World) -> None:
    promotion = asked(world)
    with pytest.raises(Conflict, match="not approved but open"):
        release(world, promotion)
    vote(world, promotion, "ann", "reject")
    with pytest.raises(Conflict, match="not approved but rejected"):
        release(world, promotion)
    world.promotions.close(promotion.id, release=False, reason="rejected by ann", actor="perdure")
    with pytest.raises(VoteRefused, match="decided before"):
        vote(world, promotion, "ben")
    assert world.promotions.approval(promotion.id).rejected_by == ["ann"]


def test_a_quorum_counts_each_person_once(world: World) -> None:
    promotion = asked(world, required=2)
    together([lambda: vote(world, promotion, "ann")] * 4)
    assert world.promotions.approval(promotion.id) == ApprovalState(approvals=1, rejections=0, required=2, approved_by=["ann"])
    with pytest.raises(VoteRefused, match="already said approve"):
        vote(world, promotion, "ann", "reject")
    state = vote(world, promotion, "ben")
    assert (state.approvals, state.approved_by) == (2, ["ann", "ben"])
    assert release(world, promotion) is not None
    assert vote(world, promotion, "ann").approvals == 2, "its answer may be asked for again"


def test_a_vote_is_about_the_evidence(world: World) -> None:
    promotion = asked(world)
    with pytest.raises(EvidenceChanged, match="other evidence"):
        world.promotions.vote(promotion.id, VoteDecision.APPROVE, "ann", "", "0" * 64, "http")
    assert world.promotions.approval(promotion.id).approvals == 0


def test_only_approvers_vote(world: World) -> None:
    promotion = asked(world, approvers=["ann"])
    with pytest.raises(VoteRefused, match="ask one of ann"):
        vote(world, promotion, "ben")
    assert vote(world, promotion, "ann").approvals == 1


@pytest.mark.parametrize(
    ("required", "cli", "channel", "counts"),
    [
        (1, True, "temporal", True),
        (1, False, "temporal", False),
        (2, True, "temporal", False),
        (2, True, "cli", False),
        (2, False, "http", True),
    ],
)
def test_a_claimed_name_counts_only_where_the_policy_says_so(world: World, required: int, cli: bool, channel: str, counts: bool) -> None:
    promotion = asked(world, required=required, cli=cli)
    if not counts:
        with pytest.raises(VoteRefused, match="a claim, not a proof"):
            vote(world, promotion, "ann", channel=channel)
        channel = "http"  # the claim does not stand in the way of the real one
    assert vote(world, promotion, "ann", channel=channel).approvals == 1


def test_a_vote_after_the_deadline_is_refused(world: World) -> None:
    promotion = asked(world, required=2)
    vote(world, promotion, "ann")
    with world.database.transaction() as session:
        session.execute(
            update(t.Approval).values(deadline=func.now() - timedelta(seconds=1)).where(t.Approval.promotion_id == promotion.id)
        )
    with pytest.raises(VoteRefused, match="the time to decide was over at 20"):
        vote(world, promotion, "ben")
    assert vote(world, promotion, "ann").approvals == 1, "its answer may be asked for again"


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.FAILED, RunState.TERMINATED])
def test_people_are_not_asked_about_a_run_that_has_ended_until_it_goes_on(world: World, state: RunState) -> None:
    run = world.run(spec={**SPEC, "promote": {"approval": {"approvers": [], "cli": True}}})
    promotion = world.promotion(run, required=2)
    vote(world, promotion, "ann")
    assert [each.run for each in open_approvals(world.database)] == [run.workflow_id]
    world.runs.close(run.id, state, None)
    assert open_approvals(world.database) == []
    with pytest.raises(VoteRefused, match="decided before: closed"):
        vote(world, promotion, "ben")
    again = world.promotion(run, required=2)  # a reset
    assert (again.id, again.state) == (promotion.id, "open")
    assert again.until is not None
    assert promotion.until is not None
    assert again.until > promotion.until
    assert [len(each.votes) for each in open_approvals(world.database)] == [1]
    assert vote(world, promotion, "ben").approvals == 2


def test_a_run_that_found_the_version_in_the_cache_is_the_one_that_asks(world: World) -> None:
    trained = world.run("trained")
    version = world.model(trained)
    world.runs.close(trained.id, RunState.SUCCEEDED, None)
    run = world.run("reuses")
    evaluation, step = world.evaluation(run, version), world.step(run, StepKind.PROMOTE)
    assert world.promotions.asked_by(version.id, uuid4()) is None
    world.promotions.open(step.id, version.id, evaluation.id, required=1, deadline_seconds=60)
    assert [each.run for each in open_approvals(world.database)] == [run.workflow_id]
    assert world.promotions.asked_by(version.id, uuid4()) == run.workflow_id
    assert world.promotions.asked_by(version.id, run.id) is None
    world.runs.close(run.id, RunState.CANCELLED, None)
    assert world.promotions.asked_by(version.id, uuid4()) is None


def test_nobody_is_asked_where_nobody_has_to_be(world: World) -> None:
    promotion = world.promotion(world.run())
    assert world.promotions.approval(promotion.id) == ApprovalState(approvals=0, rejections=0, required=0)
    with pytest.raises(NotFound, match="nobody is asked"):
        vote(world, promotion, "ann")
    with pytest.raises(NotFound):
        world.promotions.approval(uuid4())


def test_a_promotion_is_about_its_own_evaluation_and_a_live_step(world: World) -> None:
    run = world.run("1")
    version, other = world.model(run), world.model(world.run("2"))
    evaluation, step = world.evaluation(run, version), world.step(run, StepKind.PROMOTE)

    def open_(model_version: UUID) -> Promotion:
        return world.promotions.open(step.id, model_version, evaluation.id, required=0, deadline_seconds=1)

    with pytest.raises(InvalidInput, match="is of model version"):
        open_(other.id)
    world.runs.close(run.id, RunState.CANCELLED, None)
    with pytest.raises(Conflict, match="has ended as cancelled"):
        open_(version.id)


def test_decisions_are_audited(world: World) -> None:
    promotion = asked(world)
    vote(world, promotion, "ann")
    release(world, promotion)
    with world.database.transaction() as session:
        audit = session.scalars(select(t.Audit).where(t.Audit.object_id == promotion.id).order_by(t.Audit.id)).all()
    assert [(row.actor, row.action) for row in audit] == [("ann", "promotion.approve"), ("perdure", "promotion.release")]
    assert audit[0].after is not None
    assert audit[0].after["evidence_sha256"] == promotion.evaluation.evidence_sha256
