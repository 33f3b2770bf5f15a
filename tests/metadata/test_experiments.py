"""Experiments as rows: they begin and end with their stage, and a look decides once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.messages.rollout import Stage, TrafficKind
from perdure.metadata import tables as t
from perdure.metadata.repository import ExperimentRows, OutcomeRows, TrafficRows
from perdure.metadata.repository.feedback import FeedbackRows, NewOutcome
from perdure.ports import ModelVersion
from perdure.predictions import new_request, prediction_id
from perdure.rollout.comparison import Judged
from perdure.rollout.experiments import ExperimentRow
from perdure.sequential import Interval
from tests.metadata.together import together
from tests.metadata.world import World

SPEC: Json = {"metric": "reward", "share": 20}
STAGES = [
    Stage(kind=TrafficKind.STANDBY, share=0, lasts=timedelta(minutes=5)),
    Stage(kind=TrafficKind.ARM, share=20, lasts=timedelta(days=14), settings=SPEC),
    Stage(kind=TrafficKind.CANARY, share=50, lasts=timedelta(minutes=5)),
]
AT = datetime(2026, 11, 23, tzinfo=UTC)
FIGURES: Json = {"champion": {"units": 700, "mean": 0.5}, "challenger": {"units": 700, "mean": 0.7}}
GOING = Judged(state=ExperimentState.RUNNING, reason="not decided yet", interval=Interval(difference=0.2, low=-0.1, high=0.5))
BETTER = Judged(state=ExperimentState.CHALLENGER, reason="the candidate is better", interval=Interval(difference=0.2, low=0.1, high=0.3))


class Comparing:
    """A promotion in its experiment."""

    def __init__(self, world: World, champion: ModelVersion) -> None:
        self.rows, self.traffic = ExperimentRows(world.database), TrafficRows(world.database)
        self.promotion = world.promotion(world.run("new"), champion=champion)
        self.traffic.open(self.promotion.id, 0, STAGES, "")
        standing = self.traffic.open(self.promotion.id, 1, STAGES, "loaded")
        assert standing.traffic is not None
        self.id: UUID = standing.traffic
        self.since = standing.since

    def row(self) -> ExperimentRow:
        return self.rows.experiment(self.id)

    def decide(self, number: int, judged: Judged, **figures: Any) -> Judged:
        return self.rows.decide(self.id, number, AT, {**FIGURES, **figures}, judged)


def test_an_experiment_begins_with_its_stage(world: World) -> None:
    champion = world.released("1")
    one = Comparing(world, champion)
    row = one.row()
    assert (row.id, row.model, row.champion, row.challenger, row.spec) == (one.id, "moderation", 1, 2, SPEC)
    assert (row.since, row.looks, row.judged) == (one.since, 0, Judged(state=ExperimentState.RUNNING, reason=""))
    with pytest.raises(NotFound):
        one.rows.experiment(uuid4())


def test_a_look_counts_once_and_one_that_decides_is_the_last(world: World) -> None:
    one = Comparing(world, world.released("1"))
    assert one.decide(1, GOING) == GOING
    assert one.decide(1, BETTER, more="by now") == GOING  # a repeat finds what the first said
    assert one.row().looks == 1
    assert one.decide(3, BETTER) == BETTER
    before = world.rows()
    assert one.decide(3, GOING) == one.decide(4, GOING) == one.row().judged == BETTER
    assert world.rows() == before
    with world.database.transaction() as session:
        looks = session.scalars(select(t.ExperimentLook).where(t.ExperimentLook.experiment_id == one.id).order_by(t.ExperimentLook.number))
        assert [(look.number, look.at, look.verdict) for look in looks] == [(1, AT, GOING.state), (3, AT, BETTER.state)]
        row = session.get_one(t.Experiment, one.id)
        assert (row.state, row.reason) == (BETTER.state, BETTER.reason)
        assert row.ended_at is not None
        [audit] = session.scalars(select(t.Audit).where(t.Audit.object_id == one.id))
        assert (audit.action, audit.after) == ("experiment.decided", {"state": "challenger", "look": 3})
    one.traffic.open(one.promotion.id, 2, STAGES, "the candidate is better")  # what decided is not written over by the stage's end
    assert one.row().judged == BETTER


def test_of_many_at_one_look_one_decides(world: World) -> None:
    one = Comparing(world, world.released("1"))
    worse = Judged(state=ExperimentState.CHAMPION, reason="the candidate is worse", interval=BETTER.interval)
    said = together([lambda j=j: one.decide(1, j) for j in (BETTER, worse) * 3])
    assert len({str(each) for each in said}) == 1
    assert said[0] == one.row().judged


def test_a_stage_that_ends_otherwise_stops_its_experiment(world: World) -> None:
    one = Comparing(world, world.released("1"))
    one.decide(1, GOING)
    one.traffic.withdraw(one.promotion.id, "12 % of the requests failed")
    stopped = Judged(state=ExperimentState.STOPPED, reason="12 % of the requests failed")
    assert one.row().judged == one.decide(2, BETTER) == stopped
    with world.database.transaction() as session:
        row, traffic = session.get_one(t.Experiment, one.id), session.get_one(t.Traffic, one.id)
        assert row.ended_at == traffic.until


def test_a_stage_that_is_skipped_stops_its_experiment(world: World) -> None:
    one = Comparing(world, world.released("1"))
    one.traffic.open(one.promotion.id, 2, STAGES, "skipped by ann")
    assert one.row().judged == Judged(state=ExperimentState.STOPPED, reason="its stage ended before a look decided")


def test_outcomes_of_an_interval_come_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.metadata.repository.outcomes._PAGE", 2)
    world.released("1")
    ids = [prediction_id("moderation", 1, new_request()) for _ in range(5)]
    values = ["spam", 1, 0.5, True, "late"]
    observed = AT - timedelta(days=1)
    FeedbackRows(world.database).outcomes(
        [NewOutcome(prediction_id=id, value=value, source="shop", observed_at=observed) for id, value in zip(ids, values, strict=True)]
    )
    with world.database.transaction() as session:
        mine = update(t.Outcome).where(t.Outcome.tenant == world.database.tenant)
        session.execute(mine.values(received_at=AT))
        session.execute(mine.where(t.Outcome.prediction_id == ids[4]).values(received_at=AT + timedelta(hours=1)))
    rows = OutcomeRows(world.database)
    pages = list(rows.received("moderation", AT, AT + timedelta(hours=1)))
    assert [len(page) for page in pages] == [2, 2]
    told = [each for page in pages for each in page]
    assert [(each.prediction_id, each.value) for each in told] == list(zip(ids, values, strict=True))[:4]
    assert {(each.source, each.observed_at, each.received_at) for each in told} == {("shop", observed, AT)}
    assert list(rows.received("another", AT, AT + timedelta(days=1))) == []


def test_outcomes_about_predictions_of_an_interval(world: World) -> None:
    world.released("1")
    made = [(version, AT + timedelta(hours=hour)) for version in (1, 11) for hour in range(4)]
    ids = {each: prediction_id("moderation", each[0], new_request(each[1].timestamp())) for each in made}
    FeedbackRows(world.database).outcomes([NewOutcome(prediction_id=id, value=1, source="shop", observed_at=AT) for id in ids.values()])
    found = OutcomeRows(world.database).about("moderation", 1, AT + timedelta(hours=1), AT + timedelta(hours=3))
    assert {each.prediction_id for page in found for each in page} == {ids[1, AT + timedelta(hours=hour)] for hour in (1, 2)}
