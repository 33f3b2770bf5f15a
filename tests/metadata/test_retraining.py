"""Looks at a model on real rows: each statement is answered, an episode leads to one action, and what came of it is written down."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState
from perdure.messages.retraining import DriftEvent, DriftKind, EpisodeState, Force, Outcome, Snooze, TriggerKind
from perdure.metadata import tables as t
from perdure.metadata.repository import DriftRows, RetrainingRows
from tests.metadata.together import together
from tests.metadata.world import World

MODEL = "moderation"
NOW = datetime.now(UTC)
BASE: Json = {
    "name": MODEL,
    "owner": "trust@example.org",
    "data": {"source": {"uri": "sms.tsv", "format": "tsv"}, "target": "label"},
    "monitor": {"act": {"quality": "train", "data": "label"}, "cooldown": "0s", "max_per_day": 100, "max_per_30d": 1000},
}


def spec(**monitor: Any) -> Json:
    return {**BASE, "monitor": {**BASE["monitor"], **monitor}}


class Model:
    """A model with one released version, its monitors and its controller's looks."""

    def __init__(self, world: World, pipeline: Json, *, released: bool = True) -> None:
        self.world, self.pipeline, self.number = world, pipeline, 0
        self.rows, self.drift = RetrainingRows(world.database), DriftRows(world.database)
        self._add_run("first", released=released, begun=NOW - timedelta(days=100))

    def _add_run(self, key: str, *, released: bool, begun: datetime | None = None) -> None:
        run = self.world.run(key, spec=self.pipeline)
        if begun is not None:
            self.change(update(t.Run).where(t.Run.id == run.id).values(started_at=begun))
        champion = self.world.models.champion(MODEL)
        promotion = self.world.promotion(run, champion=champion, passed=released)
        self.world.promotions.close(promotion.id, release=released, reason="", actor="perdure")
        if begun is not None:  # and so long ago that nothing is held back by it
            self.change(update(t.Release).where(t.Release.promotion_id == promotion.id).values(since=begun))
        self.world.runs.close(run.id, RunState.SUCCEEDED, None)

    def change(self, statement: Any) -> None:
        with self.world.database.transaction() as session:
            session.execute(statement)

    def says(self, day: int, *, drifted: bool = True, kind: DriftKind = DriftKind.QUALITY, **more: Any) -> None:
        """One window of a day, *day* days after a month ago."""
        end = NOW + timedelta(days=day - 30)
        self.number += 1
        values: dict[str, Any] = {"monitor": kind.value, "window_start": end - timedelta(days=1), "window_end": end, "version": 1}
        event = DriftEvent(
            source="test",
            event_id=str(self.number),
            type="t",
            model=MODEL,
            kind=kind,
            drifted=drifted,
            severity=0.9 * drifted,
            **values | more,
        )
        self.drift.record([event])

    def confirmed(self, *days: int, **more: Any) -> None:
        for day in days or (1, 2, 3):
            self.says(day, **more)

    def stands(self, **more: Any) -> None:
        """What is believed at once."""
        self.says(30, level=True, window_start=None, window_end=None, **more)

    def ends(self, workflow_id: str, *, released: bool) -> None:
        self._add_run(workflow_id.rpartition("/")[2], released=released)

    def decisions(self) -> list[t.RetrainDecision]:
        d = t.RetrainDecision
        query = select(d).where(d.tenant == self.world.database.tenant).order_by(d.created_at, d.key)
        with self.world.database.transaction() as session:
            return list(session.scalars(query))

    def acts(self) -> list[t.RetrainDecision]:
        return [each for each in self.decisions() if each.outcome is not Outcome.NOTHING]

    def answers(self) -> Counter[Any]:
        query = select(t.DriftEvent.decision_id).where(t.DriftEvent.tenant == self.world.database.tenant)
        with self.world.database.transaction() as session:
            return Counter(session.scalars(query))

    def episodes(self) -> list[t.DriftEpisode]:
        e = t.DriftEpisode
        with self.world.database.transaction() as session:
            return list(session.scalars(select(e).where(e.tenant == self.world.database.tenant).order_by(e.opened_at)))

    def told(self) -> list[str]:
        o = t.Outbox
        query = select(o.payload["kind"].astext).where(o.tenant == self.world.database.tenant, o.topic == "notify").order_by(o.id)
        with self.world.database.transaction() as session:
            return list(session.scalars(query))

    def pokes(self) -> int:
        o = t.Outbox
        query = select(o.id).where(o.tenant == self.world.database.tenant, o.topic == "poke", o.target == f"retrain/{MODEL}")
        with self.world.database.transaction() as session:
            return len(list(session.scalars(query)))


@pytest.fixture
def model(world: World) -> Model:
    return Model(world, spec())


def test_drift_is_confirmed_over_windows_that_share_no_data_and_answered_once(model: Model) -> None:
    model.says(1)
    model.says(1, window_end=NOW - timedelta(days=28, hours=12))  # overlaps the first
    model.says(2)
    look = model.rows.look(MODEL)
    assert not look.starts
    assert look.open_episodes == 1
    assert [each.reason for each in model.decisions()] == ["quality drift by quality: 2 of 3 windows that share no data"]
    model.says(3)
    look = model.rows.look(MODEL)
    [act] = model.acts()
    [start] = look.starts
    assert start.workflow_id == act.workflow_id == look.running
    assert start.request.pipeline == MODEL
    assert not start.request.ask
    assert start.request.cutoff is None
    assert act.reason == "train: quality drift by quality is confirmed (3 drifted windows)"
    assert [each.state for each in model.episodes()] == [EpisodeState.ACTED]
    assert "retraining" in model.told()
    model.says(4)
    again = model.rows.look(MODEL)
    assert again.starts == [start]  # its run has no row yet: who starts it twice starts it once
    assert len(model.acts()) == 1
    assert None not in model.answers()
    assert model.answers()[act.id] == 2


def test_a_thousand_alerts_lead_to_one_action_and_each_names_it(model: Model) -> None:
    end = NOW - timedelta(minutes=1)
    events = [
        DriftEvent(
            source="alerts",
            event_id=str(n),
            type="alert",
            model=MODEL,
            kind=DriftKind.QUALITY,
            monitor="alerts",
            drifted=True,
            level=True,
            severity=1.0,
            window_end=end,
        )
        for n in range(1_000)
    ]
    model.drift.record(events[:400])
    first = model.rows.look(MODEL)
    model.drift.record(events[400:])
    model.rows.look(MODEL)
    [act] = model.acts()
    assert len(first.starts) == 1
    assert model.answers() == {act.id: 1_000}


def test_looks_at_the_same_time_decide_once(model: Model) -> None:
    model.confirmed()
    looks = together([lambda: model.rows.look(MODEL)] * 4)
    assert len({start.workflow_id for look in looks for start in look.starts}) == 1
    assert len(model.acts()) == 1


def test_feature_drift_asks_people_where_the_pipeline_can(world: World) -> None:
    asking = {**spec(), "label": {"question": "Is it spam?"}}
    model = Model(world, asking)
    model.confirmed(kind=DriftKind.DATA)
    [start] = model.rows.look(MODEL).starts
    assert start.outcome is Outcome.LABEL
    assert start.request.ask


def test_who_cannot_ask_people_tells_the_owner_once(model: Model) -> None:
    model.confirmed(kind=DriftKind.DATA)
    for _ in range(2):
        assert not model.rows.look(MODEL).starts
    model.says(4, kind=DriftKind.DATA)
    model.rows.look(MODEL)
    [held] = model.decisions()
    assert held.detail["held_by"] == "nobody"
    assert "no part `label`" in held.reason
    assert model.told().count("drift_confirmed") == 1
    assert model.answers() == {held.id: 4}


def test_a_run_that_ends_is_written_down_and_a_release_ends_episodes(model: Model) -> None:
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    pokes = model.pokes()
    model.ends(start.workflow_id, released=True)
    assert model.pokes() > pokes
    assert model.rows.look(MODEL).running is None
    [act] = model.acts()
    assert (act.result, act.helped, act.finished_at is not None) == ("released", True, True)
    assert [each.state for each in model.episodes()] == [EpisodeState.CLOSED]
    model.says(4)  # about the version of before
    model.rows.look(MODEL)
    assert model.decisions()[-1].key.startswith("late/")


def test_a_training_that_did_not_help_doubles_the_cooldown(world: World) -> None:
    model = Model(world, spec(cooldown="24h"))
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    model.ends(start.workflow_id, released=False)
    model.rows.look(MODEL)
    assert model.acts()[0].helped is False
    assert "retraining_did_not_help" in model.told()
    model.stands(monitor="other")
    look = model.rows.look(MODEL)
    assert not look.starts
    assert look.due is not None
    assert timedelta(hours=47) < look.due <= timedelta(hours=48)
    assert "2 times as long since 1 in a row did not help" in look.waits[0]


def test_drift_that_goes_on_after_a_training_that_did_not_help_is_confirmed_anew(world: World) -> None:
    model = Model(world, spec(cooldown="0s", max_per_day=9, max_per_30d=9))
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    model.rows.failed(start.decision, {"type": "StoreUnavailable"})
    assert [each.state for each in model.episodes()] == [EpisodeState.CLOSED]
    model.confirmed(4, 5)
    assert not model.rows.look(MODEL).starts
    model.confirmed(6)
    [again] = model.rows.look(MODEL).starts
    assert again.workflow_id != start.workflow_id
    model.ends(again.workflow_id, released=False)
    model.rows.look(MODEL)
    assert [each.state for each in model.episodes()] == [EpisodeState.CLOSED] * 2


def test_what_was_said_before_an_action_ended_is_answered_by_it(world: World) -> None:
    model = Model(world, spec(cooldown="0s", max_per_day=9, max_per_30d=9))
    model.stands()
    [start] = model.rows.look(MODEL).starts
    model.stands()
    model.ends(start.workflow_id, released=False)
    assert not model.rows.look(MODEL).starts
    [act] = model.acts()
    with world.database.transaction() as session:
        said = select(t.DriftEvent.decision_id).where(t.DriftEvent.tenant == world.database.tenant)
        assert set(session.scalars(said)) == {act.id}
    model.stands()
    assert model.rows.look(MODEL).starts, "and what is said since is a reason again"


def test_a_training_that_came_to_the_version_that_serves_did_not_help(model: Model) -> None:
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    promotion = model.world.promotion(model.world.run(start.workflow_id.rpartition("/")[2], spec=model.pipeline))
    p = t.Promotion
    model.change(update(p).where(p.id == promotion.id).values(state=t.PromotionState.RELEASED, closed_at=NOW))
    model.world.runs.close(model.world.steps.step(promotion.id).run_id, RunState.SUCCEEDED, None)
    model.rows.look(MODEL)
    [act] = model.acts()
    assert (act.result, act.helped) == ("unchanged", False)


def test_outcomes_are_counted_as_far_as_a_training_needs_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("perdure.metadata.repository.situations.labels_since", lambda *args, outcomes=0: asked.append(outcomes) or 0)
    for least in (0, 7):
        Model(world, spec(min_new_labels=least)).rows.look(MODEL)
    assert asked == [0, 7]


def test_the_budget_is_spent(world: World) -> None:
    model = Model(world, spec(max_per_day=1, max_per_30d=1))
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    model.ends(start.workflow_id, released=False)
    model.stands(monitor="other")
    look = model.rows.look(MODEL)
    assert "budget of 1 automatic actions" in look.waits[0]
    assert look.due is not None
    model.rows.force(MODEL, Force(actor="ann", reason="a new law", command_id="1"))
    model.rows.force(MODEL, Force(actor="ann", reason="a new law", command_id="1"))
    [forced] = model.rows.look(MODEL).starts
    assert forced.request.requested_by == "ann"
    assert model.acts()[-1].reason == "train: ann asked for it: a new law"


def test_monitors_that_observe_only_write_down(world: World) -> None:
    model = Model(world, {**spec(), "monitor": {}})
    model.confirmed()
    assert not model.rows.look(MODEL).starts
    [held] = model.decisions()
    assert held.reason.endswith("monitors only observe; by `monitor.act` this would train")


def test_snoozed_until_somebody_ends_it(model: Model) -> None:
    model.rows.snooze(MODEL, Snooze(until=NOW + timedelta(days=2), actor="ann", reason="holidays"), "1")
    model.confirmed()
    look = model.rows.look(MODEL)
    assert not look.starts
    assert look.due is not None
    assert look.due > timedelta(days=1)
    model.rows.snooze(MODEL, Snooze(actor="ann"), "2")
    assert len(model.rows.look(MODEL).starts) == 1


def test_dates_labels_datasets_and_sources_trigger(world: World) -> None:
    triggers = [{"schedule": "0 3 * * 1"}, {"data": "new"}, {"dataset": "messages"}]
    model = Model(world, {**spec(max_per_day=100), "triggers": triggers})
    at = NOW.replace(microsecond=0)
    detail = {"text": "0 3 * * 1 (UTC)", "cutoff": at.isoformat(), "overlap": "skip"}
    assert model.rows.trigger(MODEL, TriggerKind.SCHEDULE, f"schedule/{at}", detail)
    assert not model.rows.trigger(MODEL, TriggerKind.SCHEDULE, f"schedule/{at}", detail)
    [start] = model.rows.look(MODEL).starts
    assert model.acts()[0].reason == "train: it is time: 0 3 * * 1 (UTC)"
    model.rows.trigger(MODEL, TriggerKind.SCHEDULE, "schedule/next", detail)
    model.rows.look(MODEL)
    assert model.decisions()[-1].reason == f"trigger schedule (0 3 * * 1 (UTC)) is skipped: {start.workflow_id} goes on"
    model.ends(start.workflow_id, released=False)

    assert not model.rows.source(MODEL, "a")  # known: the model was trained before
    assert not model.rows.look(MODEL).starts
    assert model.rows.source(MODEL, "b")
    assert not model.rows.source(MODEL, "b")
    [start] = model.rows.look(MODEL).starts
    assert "the source has changed" in model.acts()[-1].reason
    model.ends(start.workflow_id, released=False)
    assert model.rows.source(MODEL, "a")
    model.ends(model.rows.look(MODEL).starts[0].workflow_id, released=False)

    assert not model.rows.look(MODEL).starts
    before = model.pokes()
    world.dataset(world.run("other", spec={**BASE, "name": "messages"}), "other.json", "messages")
    assert model.pokes() == before + 1
    [start] = model.rows.look(MODEL).starts
    assert "dataset messages has version 1" in model.acts()[-1].reason


def test_a_cutoff_goes_with_a_split_by_time(world: World) -> None:
    by_time = {**spec(), "data": {**BASE["data"], "split": {"by": "time", "column": "at"}}}
    model = Model(world, by_time)
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    assert start.request.cutoff == NOW - timedelta(days=27)


def test_a_run_that_never_opened_has_failed(model: Model) -> None:
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    model.rows.failed(start.decision, {"type": "RunNotOpened"}, timedelta(days=1))
    assert model.rows.look(MODEL).running == start.workflow_id, "it may come yet"
    model.rows.failed(start.decision, {"type": "InvalidInput", "message": "no"})
    model.rows.failed(uuid4(), {})
    assert model.rows.look(MODEL).running is None
    assert model.acts()[0].result == "failed"
    assert model.told().count("retraining_did_not_help") == 1


def test_a_decision_outlives_days_in_which_everything_was_down(model: Model) -> None:
    model.confirmed()
    [start] = model.rows.look(MODEL).starts
    d = t.RetrainDecision
    model.change(update(d).where(d.id == start.decision).values(created_at=NOW - timedelta(days=5)))
    assert model.rows.look(MODEL).starts == [start]
    model.rows.failed(start.decision, {"type": "RunNotOpened"}, timedelta(days=1))
    assert not model.rows.look(MODEL).starts


def test_failures_of_long_ago_still_lengthen_the_cooldown(world: World) -> None:
    model = Model(world, spec(cooldown="24h"))
    d, days = t.RetrainDecision, (128, 96, 64, 32, 0)
    for number in range(len(days)):
        model.rows.force(MODEL, Force(actor="ann", command_id=str(number)))
        [start] = model.rows.look(MODEL).starts
        model.rows.failed(start.decision, {"type": "X"})
    for act, ago in zip(model.acts(), days, strict=True):
        at, detail = NOW - timedelta(days=ago), {**act.detail, "automatic": True}
        model.change(update(d).where(d.id == act.id).values(created_at=at, finished_at=at, detail=detail))
    model.stands()
    look = model.rows.look(MODEL)
    assert look.due is not None
    assert timedelta(days=31) < look.due < timedelta(days=33)


def test_a_window_of_a_wrong_clock_holds_nothing_up(model: Model) -> None:
    model.says(10_000)
    for hour in (1, 2):
        model.says(0, window_start=NOW + timedelta(hours=hour), window_end=NOW + timedelta(hours=hour + 1))
    assert model.rows.look(MODEL).starts
    [episode] = model.episodes()
    assert (episode.hits, episode.last_window_end) == (3, NOW + timedelta(hours=3))


def test_labels_are_a_reason_again_where_the_training_made_no_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(world, {**spec(), "triggers": [{"labels": 10}]})
    new = 25
    monkeypatch.setattr("perdure.metadata.repository.situations.labels_since", lambda *args, **options: new)
    [start] = model.rows.look(MODEL).starts
    new = 35
    assert model.rows.look(MODEL).starts == [start]
    model.rows.failed(start.decision, {"type": "X"})
    [again] = model.rows.look(MODEL).starts
    assert again != start
    model.rows.failed(again.decision, {"type": "X"})
    assert not model.rows.look(MODEL).starts


def test_policies_are_numbered_when_they_change(world: World) -> None:
    model = Model(world, spec())
    model.says(1, drifted=False)
    model.rows.look(MODEL)
    model.pipeline = spec(confirm=5)
    world.run("second", spec=model.pipeline)
    model.says(2)
    model.rows.look(MODEL)
    with world.database.transaction() as session:
        p = t.RetrainPolicy
        found = session.execute(
            select(p.number, p.spec["policy"]["confirm"]).where(p.tenant == world.database.tenant).order_by(p.number)
        ).all()
    assert [tuple(row) for row in found] == [(1, 3), (2, 5)]


def test_a_model_that_no_pipeline_trains(world: World) -> None:
    rows = RetrainingRows(world.database)
    assert rows.look("nothing").waits == ["no pipeline trains nothing"]
    with pytest.raises(NotFound):
        rows.force("nothing", Force())
    with pytest.raises(NotFound):
        rows.trigger("nothing", TriggerKind.SCHEDULE, "k", {})
