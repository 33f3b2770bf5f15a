"""What follows from confirmed drift and triggers: at most one action, and a reason for everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.keys import identity
from perdure.messages.retraining import DriftKind, EpisodeState, Outcome, TriggerKind
from perdure.retraining.episodes import Episode, Statement
from perdure.retraining.look import look
from perdure.retraining.policy import Answer, Past, Situation, Verdict, Wish, decide
from perdure.spec.retrain import Act, Policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = Policy(act=Act())


def episode(monitor: str = "error", kind: DriftKind = DriftKind.QUALITY, state: EpisodeState = EpisodeState.CONFIRMED) -> Episode:
    return Episode(id=identity(monitor), monitor=monitor, kind=kind, opened_at=NOW, state=state, hits=3, last=NOW)


def wish(kind: TriggerKind, key: str = "k", **more: Any) -> Wish:
    return Wish(id=identity(kind, key), kind=kind, key=key, actor="ann", at=NOW, text=f"text of {key}", **more)


def decided(**situation: Any) -> Verdict:
    return decide(Situation(**({"now": NOW, "policy": POLICY, "asks": True} | situation)))


def only(**situation: Any) -> Answer:
    [answer] = decided(**situation).answers
    return answer


def test_measured_loss_trains_and_feature_drift_asks_people() -> None:
    assert only(episodes=[episode()]).outcome is Outcome.TRAIN
    assert only(episodes=[episode(kind=DriftKind.DATA)]).outcome is Outcome.LABEL
    both = only(episodes=[episode(), episode("psi", DriftKind.DATA)])
    assert (both.outcome, len(both.episodes)) == (Outcome.TRAIN, 2)
    assert only(episodes=[episode()]).cutoff == NOW


def test_nothing_is_decided_where_nothing_is_the_matter() -> None:
    assert decided() == Verdict(answers=[])
    assert decided(episodes=[episode(state=EpisodeState.WATCH), episode("b", state=EpisodeState.ACTED)]).answers == []


@pytest.mark.parametrize(
    ("changed", "held_by", "told"),
    [
        ({"policy": Policy()}, "observe", "monitors only observe"),
        ({"policy": Policy(act=Act(quality="nothing"))}, "policy", "leads to nothing"),
        ({"policy": Policy(act=Act(), quorum=2)}, "quorum", "1 of 2 monitors"),
        ({"policy": Policy(act=Act(), min_new_labels=9), "asks": False, "new_labels": 8}, "labels", "8 of 9 labels"),
        ({"policy": Policy(act=Act(quality="label")), "asks": False}, "nobody", "no part `label`"),
        ({"running": "run/m/1"}, "running", "run/m/1 goes on"),
        ({"snoozed_until": NOW + timedelta(days=1)}, "snoozed", "snoozed until 2026-06-02 00:00 UTC"),
        ({"history": [Past(at=NOW - timedelta(hours=5), automatic=True)]}, "cooldown", "cooldown until 2026-06-01 19:00 UTC"),
        ({"policy": Policy(act=Act(), max_per_day=0, max_per_30d=0)}, "budget", "the budget of 0"),
    ],
)
def test_what_holds_an_action_back_is_one_decision_however_often_it_is_looked_at(changed: dict[str, Any], held_by: str, told: str) -> None:
    first = only(episodes=[episode()], **changed)
    later = only(**({"episodes": [replace(episode(), hits=7)], "now": NOW + timedelta(minutes=5)} | changed))
    assert (first.outcome, first.detail["held_by"]) == (Outcome.NOTHING, held_by)
    assert told in first.reason
    assert later.key == first.key


def test_too_few_labels_ask_people_first() -> None:
    assert only(episodes=[episode()], policy=Policy(act=Act(), min_new_labels=9), new_labels=8).outcome is Outcome.LABEL
    assert only(episodes=[episode()], policy=Policy(act=Act(), min_new_labels=9), new_labels=9).outcome is Outcome.TRAIN


def test_the_cooldown_doubles_until_an_action_helps() -> None:
    def due(*helped: bool | None) -> timedelta | None:
        history = [Past(at=NOW - timedelta(days=3 * n), automatic=True, helped=each) for n, each in enumerate(helped)]
        found = decided(episodes=[episode()], history=history, policy=Policy(act=Act(), max_per_30d=100, max_per_day=100))
        return found.due - NOW if found.due else None

    day = timedelta(days=1)
    assert [due(True), due(False), due(False, False), due(None, False), due(True, False)] == [day, 2 * day, 4 * day, 2 * day, day]
    assert due(*[False] * 9) == 32 * day


def test_the_budget_counts_what_nobody_asked_for() -> None:
    policy = Policy(act=Act(), cooldown=timedelta(0))
    history = [Past(at=NOW - timedelta(days=n), automatic=True, helped=True) for n in (2, 4, 6, 8)]
    spent = decided(episodes=[episode()], policy=policy, history=history)
    assert spent.due == history[-1].at + timedelta(days=30)
    asked = [replace(each, automatic=False) for each in history]
    assert only(episodes=[episode()], policy=policy, history=asked).outcome is Outcome.TRAIN


def test_a_person_forces_past_everything_but_a_run_that_goes_on() -> None:
    held = {"snoozed_until": NOW + timedelta(days=1), "history": [Past(at=NOW, automatic=True)], "policy": Policy()}
    force = wish(TriggerKind.FORCE)
    answer = only(wishes=[force], episodes=[episode()], **held)
    assert (answer.outcome, answer.actor, answer.reason) == (Outcome.TRAIN, "ann", "train: ann asked for it: text of k")
    assert answer.episodes
    assert not answer.detail["automatic"]
    waiting = decided(wishes=[force], running="run/m/1")
    assert not waiting.answers
    assert waiting.waits == ["run/m/1 goes on", "trigger force (text of k) waits: run/m/1 goes on"]


def test_a_date_trains_without_cooldown_and_is_skipped_while_a_run_goes_on() -> None:
    date = wish(TriggerKind.SCHEDULE, cutoff=NOW - timedelta(hours=1), waits=False)
    answer = only(wishes=[date, wish(TriggerKind.LABELS, "l")], history=[Past(at=NOW, automatic=True)])
    assert (answer.outcome, answer.cutoff, len(answer.wishes)) == (Outcome.TRAIN, date.cutoff, 2)
    skipped = only(wishes=[date], running="run/m/1")
    assert (skipped.outcome, skipped.wishes) == (Outcome.NOTHING, (date.id,))
    assert not decided(wishes=[replace(date, waits=True)], running="run/m/1").answers


def test_other_triggers_wait_for_cooldown_and_budget() -> None:
    labels = wish(TriggerKind.LABELS)
    held = only(wishes=[labels], history=[Past(at=NOW, automatic=True)])
    assert (held.outcome, held.wishes) == (Outcome.NOTHING, ())
    assert held.reason == "trigger labels (text of k), but cooldown until 2026-06-02 00:00 UTC"
    observed = decided(wishes=[labels], episodes=[episode()], policy=Policy())
    assert [answer.outcome for answer in observed.answers] == [Outcome.NOTHING, Outcome.TRAIN]  # only drift is observed


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(list(DriftKind)), max_size=4),
    triggers=st.lists(st.sampled_from(list(TriggerKind)), max_size=4),
    running=st.booleans(),
    snoozed=st.booleans(),
    acts=st.booleans(),
    asks=st.booleans(),
    ago=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=5),
)
def test_at_most_one_action_and_never_beside_a_run(
    kinds: list[DriftKind],
    triggers: list[TriggerKind],
    running: bool,
    snoozed: bool,
    acts: bool,
    asks: bool,
    ago: list[tuple[int, bool]],
) -> None:
    situation = Situation(
        now=NOW,
        policy=POLICY if acts else Policy(),
        episodes=[episode(str(n), kind) for n, kind in enumerate(kinds)],
        wishes=[wish(kind, str(n)) for n, kind in enumerate(triggers)],
        history=[Past(at=NOW - timedelta(days=n), automatic=helped, helped=helped) for n, helped in sorted(ago)],
        running="run/m/1" if running else None,
        snoozed_until=NOW + timedelta(days=1) if snoozed else None,
        asks=asks,
    )
    answers = decide(situation).answers
    actions = [answer for answer in answers if answer.outcome is not Outcome.NOTHING]
    assert len(actions) <= (0 if running else 1)
    assert len({answer.key for answer in answers}) == len(answers)
    assert all(answer.reason for answer in answers)
    answered = [id for answer in answers for id in answer.episodes]
    assert sorted(answered) == sorted(each.id for each in situation.episodes)  # each confirmed episode is answered, and once
    if actions and TriggerKind.FORCE not in triggers:
        assert not snoozed


def test_every_statement_has_an_answer_and_an_acted_episode_keeps_its_own() -> None:
    end = NOW - timedelta(days=1)
    statements = [
        Statement(id=identity(n), monitor="error", kind=DriftKind.QUALITY, drifted=True, received_at=end, end=end, level=True)
        for n in range(50)
    ]
    situation = Situation(now=NOW, policy=POLICY, asks=True)
    first = look(situation, statements[:20], window=timedelta(days=1))
    [acted] = first.episodes.values()
    assert acted.state is EpisodeState.ACTED
    assert set(first.answers.values()) == set(first.decisions)
    then = look(replace(situation, episodes=[acted]), statements[20:], window=timedelta(days=1), acted={acted.id: identity("decision")})
    assert set(then.answers.values()) == {identity("decision")}
    assert not then.decisions
