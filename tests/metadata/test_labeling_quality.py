"""What becomes of opinions on a real Postgres: methods of consensus, snapshot lines, gold in leases, models that answer."""

from __future__ import annotations

import random
import sys
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from perdure.adapters.consolidation import DawidSkeneConsolidation
from perdure.errors import InvalidInput
from perdure.keys import digest, identity
from perdure.labeling.agreement import agreement
from perdure.labeling.assistance import drawn
from perdure.labeling.consensus import Opinion, decide
from perdure.labeling.ports import NewTask
from perdure.labeling.spec import Overlap
from perdure.messages.labeling import AnnotationStatus, CampaignState
from perdure.metadata.database import Database
from perdure.metadata.queries.affected import affected
from perdure.metadata.repository import changes, leases, measuring
from tests.metadata.test_labeling import Campaign, said

S = AnnotationStatus


def exported(campaign: Campaign) -> dict[str, Any]:
    return {line["key"]: line for line in campaign.rows.export(campaign.id)}


def gold(campaign: Campaign, tasks: int) -> None:
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold="ham") for n in range(tasks)])


def events(campaign: Campaign, kind: str) -> list[Any]:
    query = text("select actor, detail from campaign_event where campaign_id = :id and kind = :kind")
    with campaign.database.transaction() as session:
        return [tuple(row) for row in session.execute(query, {"id": campaign.id, "kind": kind})]


# --- consensus and lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "label", "name"), [("majority", "spam", "majority/1"), ("weighted", "ham", "weighted-majority/1")])
def test_heads_are_counted_or_weighed(database: Database, method: str, label: str, name: str) -> None:
    campaign = Campaign(database, tasks=1, consensus=method, overlap={"labels": 3, "most": 3}, gold={"rate": 0, "least": 1000})
    gold(campaign, 20)
    good, bad, worse = (uuid4().hex for _ in range(3))
    campaign.answer(*(said(f"g{n}", "ham", by=good) for n in range(20)))
    campaign.answer(*(said(f"g{n}", "ham" if n % 2 else "spam", by=who) for n in range(20) for who in (bad, worse)))
    campaign.answer(said("t0", "ham", by=good), said("t0", "spam", by=bad), said("t0", "spam", by=worse))
    assert campaign.rows.tick(campaign.id).decided == 1
    line = exported(campaign)["t0"]
    assert (line["label"], line["method"]) == (label, name)
    assert list(exported(campaign)) == ["t0"]  # gold is no training line


def test_a_line_says_of_what_it_was_made(database: Database) -> None:
    campaign = Campaign(database, tasks=2, overlap={"labels": 2, "most": 2, "agreement": 0.5})
    campaign.answer(
        said("t0", "ham", by="ada"), said("t0", "ham", by="bob"), said("t1", "spam", by="ada"), said("t1", "ham", by="ada", at=1)
    )
    campaign.answer(said("t1", "ham", by="bob", at=7))
    campaign.rows.tick(campaign.id)
    for line in exported(campaign).values():
        assert line["inputs_sha256"] == digest(sorted(f"{each['id']}/{each['revision']}" for each in line["opinions"]))
        votes = [Opinion(value=each["value"], labeler=each["labeler"]) for each in line["opinions"]]
        assert [each["weight"] for each in line["opinions"]] == [vote.accuracy for vote in votes]
        assert decide(votes, ["ham", "spam"], Overlap()).posterior == line["posterior"]
    said_of = {each["labeler"]: each for each in exported(campaign)["t1"]["opinions"]}
    assert {who: (each["revision"], each["source"], each["shown"]) for who, each in said_of.items()} == {
        "ada": ("0001", "test", None),
        "bob": ("0007", "test", None),
    }
    assert said_of["bob"]["at"] == "2026-01-01T00:00:07+00:00"


# --- estimates over the whole campaign -----------------------------------------------------------------------------------------


def estimate(campaign: Campaign) -> dict[str, Any]:
    """As the snapshot does."""
    found = DawidSkeneConsolidation().consolidate(campaign.rows.asked(campaign.id), ["ham", "spam"])
    campaign.rows.reconsider(campaign.id, found.method, found.decisions)
    return found.figures


def contradicted(database: Database) -> tuple[Campaign, list[str]]:
    """Three labelers a task, one of whom is always wrong and one half of the time; truth: every third task is ham."""
    campaign = Campaign(database, tasks=60, consensus="dawid_skene", overlap={"labels": 3, "most": 3, "agreement": 0.5})
    good, half, bad = (f"{name}{uuid4().hex}" for name in ("good", "half", "bad"))
    flip = {"ham": "spam", "spam": "ham"}
    for n in range(60):
        truth = "spam" if n % 3 else "ham"
        campaign.answer(
            said(f"t{n}", truth, by=good),
            said(f"t{n}", truth if n % 2 else flip[truth], by=half),
            said(f"t{n}", flip[truth], by=bad),
        )
    campaign.rows.tick(campaign.id)  # nothing is known of anybody yet
    gold(campaign, 6)
    campaign.answer(*(said(f"g{n}", "ham" if who != bad else "spam", by=who) for n in range(6) for who in (good, bad)))
    return campaign, [good, half, bad]


def test_all_opinions_of_a_campaign_decide_its_tasks(database: Database) -> None:
    campaign, (good, _, bad) = contradicted(database)
    before = exported(campaign)
    assert {line["method"] for line in before.values()} == {"weighted-majority/1"}
    figures = estimate(campaign)
    lines = exported(campaign)
    assert list(lines) == sorted(f"t{n}" for n in range(60))
    assert all(line["label"] == ("spam" if int(key[1:]) % 3 else "ham") for key, line in lines.items())
    assert any(line["label"] != before[key]["label"] for key, line in lines.items())
    assert all(line["method"] == "dawid-skene/1" and 0.5 < line["posterior"] <= 1 for line in lines.values())
    assert not any("weight" in each for line in lines.values() for each in line["opinions"])
    assert figures["confusion"][good]["accuracy"] > 0.95 > 0.05 > figures["confusion"][bad]["accuracy"]
    assert campaign.rows.on_gold(campaign.id) == {good: (6, 0), bad: (0, 6)}
    assert estimate(campaign) == figures
    assert exported(campaign) == lines


def test_gold_does_not_tell_how_frequent_labels_are(database: Database) -> None:
    campaign = Campaign(database, tasks=10, gold={"rate": 0, "least": 1000})
    gold(campaign, 10)
    campaign.answer(*(said(f"g{n}", "ham") for n in range(10)), *(said(f"t{n}", "spam") for n in range(10)))
    campaign.rows.tick(campaign.id)
    assert estimate(campaign)["prior"]["ham"] < 0.01


def test_an_estimate_overrules_nobody_who_decides_by_hand_and_no_later_opinion(database: Database) -> None:
    campaign, (good, _, _) = contradicted(database)
    with database.transaction() as session:
        session.execute(text("update task set state = 'disputed' where campaign_id = :id and key = 't0'"), {"id": campaign.id})
        session.execute(text("delete from decision where task_id = :task"), {"task": identity(campaign.id, "t0")})
        session.execute(text("update campaign set decided = decided - 1 where id = :id"), {"id": campaign.id})
    campaign.rows.adjudicate(campaign.id, "t0", "judge", "spam", "looked twice")
    found = DawidSkeneConsolidation().consolidate(campaign.rows.asked(campaign.id), ["ham", "spam"])
    campaign.answer(said("t1", by=good, deleted=True))  # while it is estimated
    campaign.answer(said("t1", "ham", by="late", at=3))
    campaign.rows.tick(campaign.id)
    campaign.rows.reconsider(campaign.id, found.method, found.decisions)
    lines = exported(campaign)
    assert (lines["t0"]["label"], lines["t0"]["method"], lines["t0"]["decided_by"]) == ("spam", "adjudicated", "judge")
    assert lines["t1"]["method"] == "weighted-majority/1"
    assert {line["method"] for key, line in lines.items() if key not in ("t0", "t1")} == {"dawid-skene/1"}


def test_a_worker_without_numpy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(InvalidInput, match="numpy"):
        DawidSkeneConsolidation().ready()


# --- leases ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 8])
def test_the_share_of_gold_does_not_depend_on_how_many_are_leased_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    campaign = Campaign(database, tasks=160, gold={"rate": 0.25})
    gold(campaign, 80)
    monkeypatch.setattr(leases, "random", random.Random(11))
    found = [campaign.labels.lease(campaign.id, "ada", most) for _ in range(160 // most)]
    hidden = [[lease.task.startswith("g") for lease in each] for each in found]
    assert sum(map(len, hidden)) == 160
    assert 25 <= sum(map(sum, hidden)) <= 55  # of 160; more than three standard deviations to each side
    assert sum(each[0] for each in hidden) < 0.5 * len(hidden)  # no place tells


def test_where_nothing_is_to_be_done_gold_is_not_given_out_either(database: Database) -> None:
    campaign = Campaign(database, tasks=2, gold={"rate": 0.5})
    gold(campaign, 30)
    first = campaign.labels.lease(campaign.id, "ada", 50)
    assert {"t0", "t1"} <= {lease.task for lease in first}
    assert len(first) < 20
    assert [campaign.labels.lease(campaign.id, "ada", 50) for _ in range(5)] == [[]] * 5


def test_the_blind_share_is_blind_to_everybody(database: Database) -> None:
    campaign = Campaign(database, tasks=0, overlap={"labels": 2, "most": 2}, predictions={"show": True, "blind": 0.5})
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"t{n}", payload={}, prediction={"label": "ham"}) for n in range(30)])
    seen = [{lease.task: lease.prediction for lease in campaign.labels.lease(campaign.id, who, 30)} for who in ("ada", "bob")]
    assert seen[0] == seen[1]
    assert {key for key, shown in seen[0].items() if shown} == {key for key in seen[0] if drawn(identity(campaign.id, key), "blind") >= 0.5}
    assert 5 < sum(shown is None for shown in seen[0].values()) < 25
    lease = campaign.labels.lease(campaign.id, "eve", 1)
    assert lease == []


# --- a model that answers --------------------------------------------------------------------------------------------------

RULE = {"accept_above": 0.9, "audit": 0.3, "min_agreement": 0.8, "least": 5}


def assisted(database: Database, tasks: int = 120, model: dict[str, Any] | None = None, **spec: Any) -> Campaign:
    """Every other task is predicted with confidence."""
    campaign = Campaign(database, tasks=0, model={**RULE, **(model or {})}, **spec)
    predicted = [{"label": "spam", "confidence": 0.95 if n % 2 else 0.6, "version": 3} for n in range(tasks)]
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"t{n:03}", payload={}, prediction=each) for n, each in enumerate(predicted)])
    return campaign


def audits(campaign: Campaign) -> list[str]:
    with campaign.database.transaction() as session:
        return list(
            session.scalars(text("select key from task where campaign_id = :id and assist = 'audit' order by 1"), {"id": campaign.id})
        )


def open_tasks(campaign: Campaign) -> list[str]:
    return sorted(key for key, state in campaign.states().items() if state == "open")


def work(campaign: Campaign, value: str = "spam", by: str = "ada") -> None:
    """A person answers what is given out."""
    hidden = audits(campaign)
    while held := campaign.labels.lease(campaign.id, by, 20):
        assert not any(each.prediction for each in held if each.task in hidden)
        campaign.answer(*(said(each.task, value, by=by, lease=(each.assignment, each.token)) for each in held))


def test_a_model_answers_what_it_is_sure_of(database: Database) -> None:
    campaign = assisted(database, overlap={"labels": 2, "most": 3})
    audited = audits(campaign)
    assert 5 <= len(audited) <= 33
    assert not {lease.task for lease in campaign.labels.lease(campaign.id, "eager", 120)} & (
        {f"t{n:03}" for n in range(1, 120, 2)} - {*audited}
    )
    while campaign.rows.tick(campaign.id, limit=4).more:
        pass
    lines = exported(campaign)
    assert len(lines) == 60 - len(audited)
    assert all(
        (line["label"], line["posterior"], line["method"], line["decided_by"]) == ("spam", 0.95, "model/1", "model:3")
        for line in lines.values()
    )
    assert {(each["labeler"], each["source"]) for line in lines.values() for each in line["opinions"]} == {("model:3", "model")}
    assert affected(database, "model:3").campaigns[0].answers == {S.VALID: len(lines)}
    before = campaign.rows.annotations(campaign.id)
    campaign.rows.tick(campaign.id)
    assert campaign.rows.annotations(campaign.id) == before


def test_a_model_that_people_disagree_with_is_withdrawn(database: Database) -> None:
    owner = uuid4().hex
    campaign = assisted(database, owner=owner, predictions={"show": True, "blind": 0})
    campaign.rows.tick(campaign.id)
    audited = audits(campaign)
    campaign.answer(*(said(key, "ham") for key in audited[:4]))
    assert campaign.rows.tick(campaign.id).decided == 60 - len(audited) + 4  # fewer than `least`: nobody is judged yet
    campaign.answer(*(said(key, "ham") for key in audited[4:]))
    assert campaign.rows.tick(campaign.id).more  # found out
    tick = campaign.rows.tick(campaign.id)
    assert (tick.decided, tick.over, set(campaign.counted().values())) == (len(audited), None, {0, 1})
    assert campaign.rows.annotations(campaign.id) == {S.BLOCKED: 60 - len(audited), S.VALID: len(audited)}
    reason = f"people agreed with 0 of {len(audited)} audited answers"
    assert events(campaign, "model_blocked") == [("model:3", {"reason": reason, "withdrawn": 60 - len(audited)})]
    with database.transaction() as session:
        told = session.scalars(text("select payload from outbox where topic = 'notify' and target = :who"), {"who": owner}).all()
    assert [(each["kind"], each["model"], each["reason"]) for each in told] == [("model_blocked", "model:3", reason)]
    campaign.rows.put_tasks(campaign.id, [NewTask(key="new", payload={}, prediction={"label": "ham", "confidence": 1.0, "version": 3})])
    campaign.rows.put_tasks(campaign.id, [NewTask(key="other", payload={}, prediction={"label": "ham", "score": 1, "version": 4})])
    campaign.rows.tick(campaign.id)
    work(campaign)
    while campaign.rows.tick(campaign.id).more:
        pass
    assert not open_tasks(campaign)
    assert {line["decided_by"] for key, line in exported(campaign).items() if key != "other"} == {"perdure"}


def test_a_model_is_withdrawn_a_page_of_tasks_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE", 7)
    campaign = assisted(database)
    campaign.rows.tick(campaign.id)
    audited = audits(campaign)
    campaign.answer(*(said(key, "ham") for key in audited))
    ticks = 0
    while campaign.rows.tick(campaign.id).more:
        assert campaign.rows.close(campaign.id, "over", only_if_over=True).state is CampaignState.OPEN
        ticks += 1
    assert ticks >= 120 // 7
    [(model, detail)] = events(campaign, "model_blocked")
    assert (model, detail["withdrawn"], set(detail)) == ("model:3", 60 - len(audited), {"reason", "withdrawn"})
    assert campaign.rows.annotations(campaign.id) == {S.BLOCKED: 60 - len(audited), S.VALID: len(audited)}
    assert campaign.rows.tick(campaign.id).decided == len(audited)


def test_audits_of_a_version_count_together_however_it_is_written(database: Database) -> None:
    campaign = Campaign(database, tasks=0, model={**RULE, "audit": 1})
    versions: list[dict[str, Any]] = [{"version": None}, {}]
    campaign.rows.put_tasks(
        campaign.id,
        [NewTask(key=f"t{n}", payload={}, prediction={"label": "spam", "confidence": 1, **versions[n % 2]}) for n in range(6)],
    )
    campaign.answer(*(said(f"t{n}", "ham") for n in range(6)))
    campaign.rows.tick(campaign.id)
    campaign.rows.tick(campaign.id)
    assert [detail["reason"] for _, detail in events(campaign, "model_blocked")] == ["people agreed with 0 of 6 audited answers"]


def test_a_campaign_does_not_end_with_answers_of_a_model_that_just_failed(database: Database) -> None:
    campaign = assisted(database, tasks=120)
    campaign.rows.tick(campaign.id)
    campaign.answer(*(said(key, "ham") for key in open_tasks(campaign)))
    tick = campaign.rows.tick(campaign.id)
    assert (tick.left, tick.over, tick.more) == (0, None, True)
    assert campaign.rows.close(campaign.id, "every task has its label", only_if_over=True).state is CampaignState.OPEN
    assert campaign.rows.tick(campaign.id).left == 60 - len(audits(campaign))


def test_a_model_that_people_agree_with_stays(database: Database) -> None:
    campaign = assisted(database)
    campaign.rows.tick(campaign.id)
    work(campaign)
    tick = campaign.rows.tick(campaign.id)
    assert (tick.decided, tick.over) == (120, "every task has its label")
    assert events(campaign, "model_blocked") == []
    lines = exported(campaign)
    assert [key for key, line in lines.items() if line.get("audit")] == audits(campaign)


@pytest.mark.parametrize("prediction", [{"label": "eggs", "confidence": 1}, {"label": "ham"}, {"label": "ham", "score": "1"}, {"score": 1}])
def test_what_a_model_does_not_say_clearly_is_asked_of_people(database: Database, prediction: dict[str, Any]) -> None:
    campaign = Campaign(database, tasks=0, model={**RULE, "audit": 0})
    campaign.rows.put_tasks(campaign.id, [NewTask(key="t0", payload={}, prediction=prediction)])
    campaign.rows.tick(campaign.id)
    assert campaign.states() == {"t0": "open"}
    assert [lease.task for lease in campaign.labels.lease(campaign.id, "ada", 1)] == ["t0"]


def test_people_who_were_faster_than_the_model_are_heard(database: Database) -> None:
    campaign = Campaign(database, tasks=0, model={**RULE, "audit": 0}, overlap={"labels": 1, "most": 3, "agreement": 0.7})
    sure = {"label": "spam", "confidence": 0.99}
    campaign.rows.put_tasks(campaign.id, [NewTask(key=key, payload={}, prediction=sure) for key in ("t0", "t1")])
    campaign.answer(said("t0", "ham"))
    campaign.rows.tick(campaign.id)
    assert {key: line["method"] for key, line in exported(campaign).items()} == {"t0": "weighted-majority/1", "t1": "model/1"}


def test_a_model_and_a_person_who_disagree_ask_somebody_else(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(database, tasks=0, model={**RULE, "audit": 0}, overlap={"labels": 1, "most": 3, "agreement": 0.7})
    campaign.rows.put_tasks(campaign.id, [NewTask(key="t0", payload={}, prediction={"label": "spam", "confidence": 0.99})])
    decide_ = campaign.rows._decide

    def meanwhile(*args: Any) -> Any:
        """Between the model's answer and its decision."""
        campaign.answer(said("t0", "ham"))
        return decide_(*args)

    with monkeypatch.context() as patch:
        patch.setattr(campaign.rows, "_decide", meanwhile)
        campaign.rows.tick(campaign.id)
    assert campaign.states() == {"t0": "open"}
    work(campaign, "ham", by="bob")
    campaign.rows.tick(campaign.id)
    assert (exported(campaign)["t0"]["label"], len(exported(campaign)["t0"]["opinions"])) == ("ham", 3)


# --- what ends it ----------------------------------------------------------------------------------------------------------


def test_a_budget_of_labels_counts_what_people_said(database: Database) -> None:
    campaign = Campaign(database, tasks=4, budget={"labels": 3}, model={**RULE, "audit": 0})
    campaign.rows.put_tasks(campaign.id, [NewTask(key="sure", payload={}, prediction={"label": "ham", "confidence": 1})])
    gold(campaign, 1)
    campaign.answer(said("t0"), said("g0", "ham"), said("t1", None, skip=True))
    assert campaign.rows.tick(campaign.id).over is None
    campaign.answer(said("t1", "ham", by="bob"))
    measured_again(campaign)
    assert campaign.rows.tick(campaign.id).over == "the budget of 3 labels is spent"
    assert campaign.rows.close(campaign.id, "the budget of 3 labels is spent", only_if_over=True).state is CampaignState.CLOSED


def test_a_budget_of_hours_adds_up_what_answers_took(database: Database) -> None:
    campaign = Campaign(database, tasks=4, budget={"hours": 1.5})
    campaign.answer(said("t0", duration_ms=1_800_000), said("t1", duration_ms=-5), said("t2"))
    assert campaign.rows.tick(campaign.id).over is None
    campaign.answer(said("t3", by="bob", duration_ms=2_000_000_000))  # somebody went home: one hour at most
    measured_again(campaign)
    tick = campaign.rows.tick(campaign.id)
    assert tick.over == "the budget of 1.5 hours is spent"
    measured = campaign.rows.campaign(campaign.id).measured
    assert measured is not None
    assert measured["hours"] == pytest.approx(1.5)


def test_what_was_measured_just_now_is_looked_at_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SELDOM", 1e6)
    campaign = Campaign(database, tasks=2, budget={"labels": 1})
    assert campaign.rows.tick(campaign.id).due is None
    campaign.answer(said("t0"))
    tick = campaign.rows.tick(campaign.id)
    assert (tick.over, bool(tick.due and tick.due.total_seconds() > 0)) == (None, True)
    measured_again(campaign)
    assert campaign.rows.tick(campaign.id).over == "the budget of 1 labels is spent"


@pytest.mark.parametrize(("differing", "over"), [(1, True), (8, False)])
def test_labelers_who_agree_are_enough(database: Database, differing: int, over: bool) -> None:
    campaign = Campaign(database, tasks=60, overlap={"labels": 2, "most": 2}, stop={"alpha": 0.7, "least": 40})
    for n in range(39):
        one = "ham" if n % 2 else "spam"
        campaign.answer(said(f"t{n}", one, by="ada"), said(f"t{n}", "spam" if n < 2 * differing else one, by="bob"))
    assert campaign.rows.tick(campaign.id).over is None  # not enough to judge by
    campaign.answer(said("t50", "ham", by="ada"), said("t50", "ham", by="bob"))
    measured_again(campaign)
    tick = campaign.rows.tick(campaign.id)
    assert (tick.over is not None) == over
    assert tick.over is None or tick.over.startswith("labelers agree: alpha is at least 0.")


def test_who_looks_often_is_more_careful(database: Database) -> None:
    """The 95 % interval of these opinions ends above what is wanted, three standard errors below do not."""
    campaign = Campaign(database, tasks=60, overlap={"labels": 2, "most": 2}, stop={"alpha": 0.65, "least": 40})
    opinions = [(one, "spam" if n < 8 else one) for n in range(50) for one in ["ham" if n % 2 else "spam"]]
    for n, (one, other) in enumerate(opinions):
        campaign.answer(said(f"t{n}", one, by="ada"), said(f"t{n}", other, by="bob"))
    found = agreement(opinions)
    assert found.alpha is not None
    assert found.low is not None
    assert found.low > 0.65
    tick = campaign.rows.tick(campaign.id)
    measured = campaign.rows.campaign(campaign.id).measured
    assert measured is not None
    assert tick.over is None
    assert measured["alpha"]["value"] == pytest.approx(found.alpha)
    assert measured["alpha"]["low"] < 0.65  # drawn by lot, of another seed for each campaign


def measured_again(campaign: Campaign) -> None:
    """It is time again."""
    with campaign.database.transaction() as session:
        query = text("update campaign set measured = measured || jsonb_build_object('again', cast(:past as text)) where id = :id")
        session.execute(query, {"id": campaign.id, "past": "2026-01-01T00:00+00:00"})
