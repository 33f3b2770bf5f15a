"""Stages of a rollout and rollbacks, on Postgres."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select

from perdure.config import Settings
from perdure.errors import Conflict, NotFound
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.rollout import Stage, Standing, TrafficKind
from perdure.metadata import tables as t
from perdure.metadata.listening import Listener
from perdure.metadata.queries.routing import routes
from perdure.metadata.repository import RollbackRows, TrafficRows
from perdure.ports import ModelVersion, Promotion
from perdure.rollout.ports import Counted, Counts, ServingProcess
from tests.metadata.together import together
from tests.metadata.world import SPEC, World

STAGES = [
    Stage(kind=TrafficKind.STANDBY, share=0, lasts=timedelta(minutes=5)),
    Stage(kind=TrafficKind.SHADOW, share=100, lasts=timedelta(minutes=10)),
    Stage(kind=TrafficKind.CANARY, share=10, lasts=timedelta(minutes=10)),
]
OWNED = {**SPEC, "owner": "trust@example.org"}


@pytest.fixture
def traffic(world: World) -> TrafficRows:
    return TrafficRows(world.database)


def staged(world: World, key: str = "2") -> tuple[ModelVersion, Promotion]:
    """A released version, and the promotion of another."""
    champion = world.released("1")
    return champion, world.promotion(world.run(key, spec=OWNED), champion=champion)


def enter(traffic: TrafficRows, promotion: Promotion, position: int) -> Standing:
    return traffic.open(promotion.id, position, STAGES, "because")


def intervals(world: World) -> list[t.Traffic]:
    with world.database.transaction() as session:
        return list(session.scalars(select(t.Traffic).where(t.Traffic.tenant == world.database.tenant).order_by(t.Traffic.since)))


def said(world: World, table: type[t.Base], *columns: str) -> list[tuple[object, ...]]:
    with world.database.transaction() as session:
        rows = session.scalars(select(table).where(table.tenant == world.database.tenant)).all()
        return [tuple(getattr(row, column) for column in columns) for row in rows]


def rollback(world: World, *, to: int | None = None, command: str = "c1") -> object:
    return RollbackRows(world.database).rollback("moderation", to=to, reason="too strict", actor="ann", command_id=command)


def test_stages_follow_each_other_until_the_release_ends_the_last(world: World, traffic: TrafficRows) -> None:
    champion, promotion = staged(world)
    for position, stage in enumerate(STAGES):
        standing = enter(traffic, promotion, position)
        assert enter(traffic, promotion, position) == standing, "a repeat finds it open"
        candidate = routes(world.database)[0].candidate
        assert candidate is not None
        assert (candidate.traffic, candidate.version.id, candidate.kind, candidate.share) == (
            standing.traffic,
            promotion.model_version,
            stage.kind,
            stage.share,
        )
    assert world.promotions.close(promotion.id, release=True, reason="passed", actor="perdure") is not None
    rows = intervals(world)
    assert [(row.stage, row.outcome) for row in rows] == [(-1, "passed"), (0, "passed"), (1, "passed")]
    assert [row.until for row in rows[:-1]] == [row.since for row in rows[1:]], "there is no moment between two stages"
    [route] = routes(world.database)
    assert (route.candidate, route.released and route.released.id, route.previous and route.previous.id) == (
        None,
        promotion.model_version,
        champion.id,
    )


def test_a_stage_is_entered_once_by_however_many(world: World, traffic: TrafficRows) -> None:
    _, promotion = staged(world)
    first = together([lambda: enter(traffic, promotion, 0)] * 4)
    second = together([lambda: enter(traffic, promotion, 1)] * 4)
    assert len({each.traffic for each in first}) == len({each.traffic for each in second}) == 1
    assert enter(traffic, promotion, 0) == second[0], "who comes late finds where it stands"
    assert len(intervals(world)) == 2


def test_an_interrupted_rollout_goes_on_where_it_was_after_a_standby(world: World, traffic: TrafficRows) -> None:
    _, promotion = staged(world)
    for position in range(3):
        enter(traffic, promotion, position)
    run = world.runs.live()[-1]
    world.runs.close(run[0], RunState.TERMINATED, {"type": "Terminated", "message": "terminated"})
    assert intervals(world)[-1].outcome == "its run has ended"
    assert not traffic.staged(promotion.id)
    with pytest.raises(Conflict, match="has ended"):
        enter(traffic, promotion, 2)
    world.steps.begin(run[0], 0, StepKind.PROMOTE)  # a reset
    assert enter(traffic, promotion, 0).position == 0
    assert enter(traffic, promotion, 1).position == 2, "the shadow has passed before"
    assert len({row.id for row in intervals(world)}) == 5


def test_nothing_begins_that_was_compared_with_another(world: World, traffic: TrafficRows) -> None:
    champion, promotion = staged(world)
    enter(traffic, promotion, 0)
    other = world.promotion(world.run("3"), champion=champion)
    taken = enter(traffic, other, 0)
    assert (taken.traffic, taken.ended) == (None, "version 2 takes part in run/moderation/2 now")
    assert world.promotions.close(other.id, release=True, reason="by hand", actor="ann") is not None
    assert intervals(world)[-1].outcome == "version 3 was released meanwhile"
    assert enter(traffic, promotion, 1).ended == "version 3 of 'moderation' serves now, but this version was compared with another"
    assert ("promote/moderation/2",) in said(world, t.Outbox, "target"), "its workflow looks again"


def test_a_refusal_ends_the_stage_and_tells_the_owner(world: World, traffic: TrafficRows) -> None:
    _, promotion = staged(world)
    opened = [enter(traffic, promotion, position) for position in range(2)]
    for _ in range(2):
        assert world.promotions.close(promotion.id, release=False, reason="2 % failed", actor="perdure") is None
    assert [(row.id, row.outcome) for row in intervals(world)] == [(opened[0].traffic, "passed"), (opened[1].traffic, "2 % failed")]
    kinds = [kind for version, kind in said(world, t.ModelEvent, "model_version_id", "kind") if version == promotion.model_version]
    assert sorted(kinds) == ["evaluated", "refused", "rolled_back", "staged", "staged", "trained"]
    told = [payload for topic, target, payload in said(world, t.Outbox, "topic", "target", "payload") if topic == "notify"]
    assert [(each["kind"], each["version"], each["reason"]) for each in told] == [("rollout_failed", 2, "2 % failed")]
    assert enter(traffic, promotion, 0).ended == "2 % failed"


def test_whoever_serves_hears_of_every_change(world: World, traffic: TrafficRows, migrated: Settings) -> None:
    _, promotion = staged(world)
    with Listener.open(migrated.postgres, "perdure_traffic") as listener:
        listener.wait(0)
        assert not listener.wait(0.2)
        enter(traffic, promotion, 0)
        assert listener.wait(5)
        traffic.withdraw(promotion.id, "cancelled")
        assert listener.wait(5)
        world.promotions.close(promotion.id, release=True, reason="", actor="ann")
        assert listener.wait(5)
        rollback(world)
        assert listener.wait(5)
        traffic.withdraw(promotion.id, "again")
        assert not listener.wait(0.2), "nothing has changed"


def test_a_command_counts_once_and_for_an_open_stage(world: World, traffic: TrafficRows) -> None:
    _, promotion = staged(world)
    standby, shadow = (enter(traffic, promotion, position).traffic for position in range(2))
    assert standby is not None
    assert shadow is not None
    with pytest.raises(Conflict, match="has ended meanwhile"):
        traffic.command(promotion.id, standby, "advance", "c0", "ann", "")
    for _ in range(2):
        traffic.command(promotion.id, shadow, "abort", "c1", "ann", "too slow")
    assert traffic.row(shadow).outcome == "aborted by ann: too slow"
    assert said(world, t.Audit, "action").count(("promotion.abort",)) == 1
    assert enter(traffic, promotion, 2).ended == "aborted by ann: too slow", "who was about to open the next stage finds it refused"
    with pytest.raises(NotFound):
        traffic.command(promotion.id, uuid4(), "abort", "c2", "ann", "")


def test_figures_are_of_the_candidate_in_its_stage_and_of_the_released_version_beside_it(world: World, traffic: TrafficRows) -> None:
    champion, promotion = staged(world)
    enter(traffic, promotion, 0)
    opened = enter(traffic, promotion, 1)
    assert opened.traffic is not None
    one, other = serving(world, [champion.id]), serving(world, [champion.id, promotion.model_version])
    for minute in (-120, 0, 60):  # by the clocks of serving processes
        count(world, one, promotion.model_version, "shadow", opened.traffic, minute, 5, [4, 1])
    count(world, other, promotion.model_version, "shadow", opened.traffic, 0, 1, [0, 0, 1])
    count(world, other, promotion.model_version, "shadow", uuid4(), 0, 99, [99])  # of a former rollout, in the same minute
    for minute in (-120, 0):
        count(world, other, champion.id, "release", uuid4(), minute, 7, [7])
    figures = traffic.counts(opened.traffic)
    assert figures == Counts(
        candidate=Counted(requests=16, rows=16, errors=16, disagreements=16, latency=[12, 3, 1]),
        released=Counted(requests=7, rows=7, errors=7, disagreements=7, latency=[7]),
    )


def test_only_who_serves_the_model_now_is_waited_for(world: World, traffic: TrafficRows) -> None:
    champion, promotion = staged(world)
    serving(world, [], address="of other models")
    serving(world, [champion.id], address="gone", seen=timedelta(seconds=-11))
    serving(world, [champion.id], address="a")
    serving(world, [champion.id], address="b", failed={str(promotion.model_version): "its digest differs"})
    assert traffic.processes("moderation", promotion.model_version) == [
        ServingProcess(address="a", loaded=False),
        ServingProcess(address="b", loaded=False, failed="its digest differs"),
    ]


def serving(
    world: World, loaded: list[UUID], *, address: str = "x", seen: timedelta = timedelta(0), failed: dict[str, str] | None = None
) -> UUID:
    key = uuid4()
    row = {"id": key, "tenant": world.database.tenant, "address": address, "loaded": [str(each) for each in loaded], "failed": failed or {}}
    with world.database.transaction() as session:
        session.execute(insert(t.ServingInstance).values(**row, seen_at=func.now() + seen))
    return key


def count(world: World, instance: UUID, version: UUID, role: str, by: UUID, minute: int, requests: int, latency: list[int]) -> None:
    same = dict.fromkeys(("requests", "rows", "errors", "disagreements"), requests)
    row = {"tenant": world.database.tenant, "instance_id": instance, "model_version_id": version, "role": role, "by_id": by}
    at = func.date_trunc("minute", func.now()) + timedelta(seconds=minute)
    with world.database.transaction() as session:
        session.execute(insert(t.ServingWindow).values(**row, **same, latency=latency, minute=at))


def test_a_rollback_opens_the_version_before_and_ends_everything_under_way(world: World, traffic: TrafficRows) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    promotion = world.promotion(world.run("3"), required=1, champion=second)
    opened = rollback(world)
    assert rollback(world) == opened, "the same command again"
    with world.database.transaction() as session:
        rows = session.scalars(select(t.Release).where(t.Release.tenant == world.database.tenant).order_by(t.Release.since)).all()
    assert [row.model_version_id for row in rows] == [first.id, second.id, first.id]
    assert (rows[2].rolled_back_id, rows[2].promotion_id, rows[2].since, rows[2].until) == (rows[1].id, None, rows[1].until, None)
    state = world.promotions.approval(promotion.id)
    assert state.refused == "version 2 was rolled back by ann: too strict"
    assert ("promote/moderation/3",) in said(world, t.Outbox, "target")
    kinds = [kind for version, kind in said(world, t.ModelEvent, "model_version_id", "kind") if version == second.id]
    assert "rolled_back" in kinds
    with pytest.raises(Conflict, match="no version of 'moderation' was released before version 1"):
        rollback(world, command="c2")


def test_a_rollback_ends_the_candidate(world: World, traffic: TrafficRows) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    promotion = world.promotion(world.run("3"), champion=second)
    enter(traffic, promotion, 0)
    rollback(world)
    assert intervals(world)[-1].outcome == "version 2 was rolled back by ann: too strict"
    assert routes(world.database)[0].candidate is None
    assert enter(traffic, promotion, 1).ended == "version 2 was rolled back by ann: too strict"


def test_a_rollback_to_a_version_that_served(world: World) -> None:
    versions = [world.released("1")]
    for key in ("2", "3"):
        versions.append(world.released(key, champion=versions[-1]))
    world.promotion(world.run("4"), champion=versions[-1])
    with pytest.raises(Conflict, match="version 4 of 'moderation' was never released") as refused:
        rollback(world, to=4)
    assert refused.value.remedy == "name one of 1, 2"
    with pytest.raises(NotFound, match="no version 9"):
        rollback(world, to=9)
    with pytest.raises(Conflict, match="version 3 of 'moderation' serves now"):
        rollback(world, to=3)
    rollback(world, to=1)
    assert world.models.champion("moderation") == versions[0]
    rollback(world, to=3, command="forward again")
    assert world.models.champion("moderation") == versions[2]


def test_where_nothing_serves_there_is_nothing_to_go_back_from(world: World) -> None:
    with pytest.raises(NotFound, match="there is no model 'moderation'"):
        rollback(world)
    world.promotion(world.run())
    with pytest.raises(NotFound, match="no version of model 'moderation' is released"):
        rollback(world)


def test_of_a_release_and_a_rollback_at_once_one_is_first(world: World) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    promotion = world.promotion(world.run("3"), champion=second)
    together(
        [
            lambda: world.promotions.close(promotion.id, release=True, reason="", actor="perdure"),
            lambda: rollback(world),
        ]
    )
    champion = world.models.champion("moderation")
    assert champion is not None
    assert champion.number in (1, 2), "3 was undone, or refused"
    with world.database.transaction() as session:
        open_ones = select(func.count()).where(t.Release.tenant == world.database.tenant, t.Release.until.is_(None))
        assert session.scalar(open_ones) == 1


def test_who_rolled_a_version_back_is_known_until_somebody_lets_it_serve_again(world: World) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    again = world.run("again")
    step, evaluation = world.step(again, StepKind.PROMOTE), world.evaluation(again, second, champion=first)

    def undone() -> str:
        return world.promotions.open(step.id, second.id, evaluation.id, required=0, deadline_seconds=60).undone

    assert undone() == ""
    rollback(world)
    assert undone().startswith("version 2 was rolled back by ann: too strict;")
    rollback(world, to=2, command="c2")
    assert undone() == ""


def test_a_run_that_has_ended_releases_nothing(world: World) -> None:
    _, promotion = staged(world)
    world.runs.close(world.detail(promotion.id).run_id, RunState.TERMINATED, None)
    with pytest.raises(Conflict):
        world.promotions.close(promotion.id, release=True, reason="all gates passed", actor="perdure")
    assert world.promotions.close(promotion.id, release=False, reason="late", actor="perdure") is None


def test_mlflow_is_told_of_a_rollback(world: World) -> None:
    first = world.released("1")
    world.released("2", champion=first)
    for pending in world.projections.runs():
        world.projections.pushed("run", pending.id, pending.digest, f"run of {pending.workflow_id}")
    for version in world.projections.versions():
        world.projections.pushed("model_version", version.version.id, version.digest, str(version.version.number))
    for release in world.projections.releases():
        world.projections.pushed("release", release.release.id, release.digest)
    assert world.projections.releases() == []
    rollback(world)
    [pending_release] = world.projections.releases()
    assert pending_release.external_version == "1"


def test_who_has_not_voted_is_reminded_once_a_time(world: World) -> None:
    spec = {**OWNED, "promote": {"approval": {"approvers": ["ann", "ben"], "cli": True}}}
    promotion = world.promotion(world.run(spec=spec), required=2)
    world.promotions.vote(promotion.id, "approve", "ann", "", promotion.evaluation.evidence_sha256, "http")  # type: ignore[arg-type]
    for number in (1, 1, 2):
        world.promotions.remind(promotion.id, number)
    told = [
        target
        for topic, target, payload in said(world, t.Outbox, "topic", "target", "payload")
        if topic == "notify" and payload["kind"] == "approval_reminder"
    ]
    assert told == ["ben", "ben"]
