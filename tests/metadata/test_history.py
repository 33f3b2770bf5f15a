"""Who answered when, and who said what of it: as of any instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update

from perdure.errors import InvalidInput, NotFound
from perdure.messages.retraining import DriftEvent, DriftKind, EpisodeState, Outcome
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.queries import VersionFeedback, model_history, serving_at, show_prediction
from perdure.metadata.repository import DriftRows
from perdure.predictions import new_request, prediction_id
from tests.metadata.world import World

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


class Life:
    """A model in its third week: version 1 was released, 2 was a canary for a day and then released; drift, a decision, feedback."""

    def __init__(self, world: World, model: str = "moderation") -> None:
        self.model = model
        one = world.released("1")
        two = world.released("2", champion=one)
        start = NOW - 21 * DAY
        self.released, self.canary, self.switched = start, start + 9 * DAY, start + 10 * DAY
        with world.database.transaction() as session:
            mine = update(t.Release).where(t.Release.tenant == world.database.tenant)
            for version, trained in ((one.id, start - DAY), (two.id, self.canary - DAY)):
                session.execute(update(t.ModelVersion).where(t.ModelVersion.id == version).values(created_at=trained))
            session.execute(mine.where(t.Release.model_version_id == one.id).values(since=start, until=self.switched))
            session.execute(mine.where(t.Release.model_version_id == two.id).values(since=self.switched))
            promotion = session.query(t.Promotion).where(t.Promotion.model_version_id == two.id).one()
            own = {"tenant": world.database.tenant, "model": model}
            session.add(
                t.Traffic(
                    **own,
                    id=uuid4(),
                    model_version_id=two.id,
                    promotion_id=promotion.id,
                    stage=1,
                    kind=t.TrafficKind.CANARY,
                    share=10.0,
                    since=self.canary,
                    until=self.switched,
                    outcome="passed",
                )
            )
            policy, self.episode = uuid4(), uuid4()
            session.add(t.RetrainPolicy(**own, id=policy, number=1, sha256="0", spec={}, pipeline=model, created_at=start))
            session.add(
                t.DriftEpisode(
                    **own,
                    id=self.episode,
                    monitor="psi",
                    kind=DriftKind.DATA,
                    state=EpisodeState.CLOSED,
                    hits=3,
                    misses=2,
                    opened_at=start + 5 * DAY,
                    closed_at=start + 12 * DAY,
                )
            )
            session.flush()
            session.add(
                t.RetrainDecision(
                    **own,
                    id=uuid4(),
                    key="act",
                    policy_id=policy,
                    outcome=Outcome.TRAIN,
                    reason="train: data drift by psi is confirmed (3 drifted windows)",
                    detail={},
                    episodes=[str(self.episode)],
                    actor="perdure",
                    workflow_id="run/moderation/2",
                    result="released",
                    helped=True,
                    created_at=start + 8 * DAY,
                )
            )
            self.early = self._predicted(1, start + DAY)
            self.by_canary = self._predicted(2, self.canary + DAY / 2)
            for who, verdict, at in (
                ("ada", t.Verdict.WRONG, start + 2 * DAY),
                ("bob", t.Verdict.WRONG, start + 2 * DAY),
                ("ada", t.Verdict.RIGHT, start + 11 * DAY),  # takes back what she said
            ):
                said = {"principal": who, "verdict": verdict, "comment": "", "created_at": at}
                session.add(t.Feedback(**own, id=uuid4(), prediction_id=self.early, version=1, **said))
            truth = {"value": {"value": "spam"}, "observed_at": start + 3 * DAY, "received_at": start + 4 * DAY}
            session.add(t.Outcome(**own, id=uuid4(), prediction_id=self.early, source="orders", **truth))
        events = [
            DriftEvent(
                source=f"test/{model}",
                event_id=str(day),
                type="ai.perdure.drift.data.v1",
                model=model,
                kind=DriftKind.DATA,
                monitor="psi",
                drifted=day < 8,
                severity=0.6 if day < 8 else 0.1,
                version=1,
            )
            for day in range(5, 10)
        ]
        DriftRows(world.database).record(events)
        with world.database.transaction() as session:
            for day in range(5, 10):
                named = update(t.DriftEvent).where(t.DriftEvent.event_id == str(day), t.DriftEvent.source == f"test/{model}")
                session.execute(named.values(received_at=start + day * DAY))

    def _predicted(self, version: int, at: datetime) -> str:
        return prediction_id(self.model, version, new_request(at.timestamp()))


@pytest.fixture
def life(world: World) -> Life:
    return Life(world)


def roles(database: Database, at: datetime) -> list[tuple[str, int, float | None]]:
    return [(row["role"], row["version"], row["share"]) for row in serving_at(database, "moderation", at)]


def test_who_answered_at_any_instant(life: Life, database: Database) -> None:
    moment = timedelta(microseconds=1)
    assert roles(database, life.released - moment) == []
    assert roles(database, life.released) == [("release", 1, None)]
    assert roles(database, life.canary + moment) == [("release", 1, None), ("canary", 2, 10.0)]
    assert roles(database, life.switched - moment) == [("release", 1, None), ("canary", 2, 10.0)]
    assert roles(database, life.switched) == [("release", 2, None)]
    assert serving_at(database, "nobody", NOW) == []


def test_a_prediction_names_its_version_and_what_it_was_then(life: Life, database: Database) -> None:
    early = show_prediction(database, life.early)
    assert (early.version, [(row["role"], row["answers"]) for row in early.served]) == (1, [("release", True)])
    assert early.origin["run"] == "run/moderation/1"
    assert [(row["who"], row["kind"], row["verdict"] or row["value"]) for row in early.said] == [
        ("ada", "feedback", "wrong"),
        ("bob", "feedback", "wrong"),
        ("orders", "outcome", "spam"),
        ("ada", "feedback", "right"),
    ]
    assert len(show_prediction(database, life.early, life.released + 3 * DAY).said) == 2
    canary = show_prediction(database, life.by_canary)
    assert [(row["role"], row["share"], row["reason"]) for row in canary.served] == [("canary", 10.0, "passed")]
    [then] = show_prediction(database, life.by_canary, life.switched - timedelta(hours=1)).served
    assert (then["until"], then["reason"]) == (None, "")  # nobody knew how it would end
    with pytest.raises(NotFound):
        show_prediction(database, prediction_id("moderation", 9, new_request()))
    with pytest.raises(InvalidInput):
        show_prediction(database, "moderation.1.nonsense")


def test_a_model_as_it_is_and_as_it_was(life: Life, database: Database) -> None:
    now = model_history(database, "moderation")
    assert [row["version"] for row in now.now] == [2]
    assert (now.drift_events, len(now.drift), [row["state"] for row in now.episodes]) == (5, 5, [EpisodeState.CLOSED])
    assert now.feedback == [VersionFeedback(version=1, right=1, wrong=1, outcomes=1)]
    assert [(row["outcome"], row["helped"]) for row in now.decisions] == [(Outcome.TRAIN, True)]
    then = model_history(database, "moderation", life.released + 7.5 * DAY)
    assert [(row["version"], row["until"]) for row in then.serving] == [(1, None)]
    assert (then.drift_events, [(row["state"], row["closed_at"]) for row in then.episodes]) == (3, [("open", None)])
    assert (then.decisions, then.feedback) == ([], [VersionFeedback(version=1, wrong=2, outcomes=1)])
    with pytest.raises(NotFound):
        model_history(database, "nobody")
