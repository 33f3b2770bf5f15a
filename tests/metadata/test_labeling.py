"""Answers, leases and ticks on a real Postgres: repeated, reordered or at once, each answer has one status and counts once."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from perdure.errors import AccessDenied, Conflict, InvalidInput, LeaseLost
from perdure.labeling.ports import Incoming, NewTask
from perdure.messages.common import ArtifactRef
from perdure.messages.labeling import WITHDRAWN, AnnotationStatus, CampaignCommand, CampaignState
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows, LabelRows, changes
from perdure.metadata.upgrade import upgrade
from tests.servers import Stack

S = AnnotationStatus
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"question": "Is it spam?", "choices": ["ham", "spam"], "gold": {"rate": 0}}


class Campaign:
    def __init__(self, database: Database, tasks: int = 3, **spec: Any) -> None:
        self.database = database
        self.rows, self.labels = CampaignRows(database), LabelRows(database)
        name = uuid4().hex[:8]
        self.id = self.rows.open(name, {**SPEC, **spec}, f"campaign/{name}", "test").id
        self.rows.put_tasks(self.id, [NewTask(key=f"t{n}", payload={"text": str(n)}) for n in range(tasks)])

    def answer(self, *answers: Incoming) -> list[AnnotationStatus | None]:
        return [result.status for result in self.labels.accept(self.id, answers)]

    def counted(self) -> dict[str, int]:
        """Valid annotations by task, as counted in the tasks' rows and as there are."""
        query = text(
            "select key, n_valid, n_skip,"
            " count(*) filter (where status = 'valid') as valid, count(*) filter (where status = 'skipped') as skipped"
            " from task t left join annotation a on a.task_id = t.id where t.campaign_id = :id group by t.id"
        )
        with self.database.transaction() as session:
            rows = session.execute(query, {"id": self.id}).all()
        assert all((row.n_valid, row.n_skip) == (row.valid, row.skipped) for row in rows)
        return {row.key: row.valid for row in rows}

    def states(self) -> dict[str, str]:
        with self.database.transaction() as session:
            return dict(session.execute(text("select key, state from task where campaign_id = :id order by key"), {"id": self.id}).all())


def said(task: str, value: str | None = "spam", by: str = "ada", key: str | None = None, at: int = 0, **more: Any) -> Incoming:
    when = BEGAN + timedelta(seconds=at)
    return Incoming(
        task=task, value=value, labeler=by, source="test", source_key=key or f"{by}/{task}", revision=f"{at:04}", event_time=when, **more
    )


def test_an_answer_counts_once(database: Database) -> None:
    campaign = Campaign(database)
    assert campaign.answer(said("t0"), said("t0"), said("t1", "ham")) == [S.VALID, S.VALID, S.VALID]
    assert campaign.labels.accept(campaign.id, [said("t0")])[0].duplicate
    assert campaign.counted() == {"t0": 1, "t1": 1, "t2": 0}
    tick = campaign.rows.tick(campaign.id)
    assert (tick.total, tick.decided, tick.left, tick.over) == (3, 2, 1, None)
    assert campaign.answer(said("t0", "ham", by="bob")) == [S.LATE]
    campaign.answer(said("t2"))
    assert campaign.rows.tick(campaign.id).over == "every task has its label"


def test_what_does_not_fit_is_told_and_holds_up_nobody(database: Database) -> None:
    campaign = Campaign(database)
    results = campaign.labels.accept(campaign.id, [said("t0", "eggs"), said("nowhere"), said("t1"), said("t2", key="ada/t1")])
    assert [result.status for result in results] == [None, None, S.VALID, None]
    assert "ham, spam" in (results[0].error or "")
    assert "no such task" in (results[1].error or "")
    assert "another task" in (results[3].error or "")


@pytest.mark.parametrize("seed", range(4))
def test_any_order_from_many_senders_at_once(database: Database, seed: int) -> None:
    campaign = Campaign(database, tasks=6, overlap={"labels": 9, "most": 9})
    answers = [
        said(f"t{task}", "ham", by=f"l{by}", at=at, skip=at == 2, deleted=at == 3 and by == 0)
        for task in range(6)
        for by in range(3)
        for at in range(4)
    ]
    sent = answers * 2
    random.Random(seed).shuffle(sent)
    batches = [sent[start : start + 7] for start in range(0, len(sent), 7)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda batch: campaign.labels.accept(campaign.id, batch), batches))
    assert all(result.status for each in results for result in each)
    assert sum(result.duplicate for each in results for result in each) == len(answers)
    assert campaign.counted() == dict.fromkeys((f"t{n}" for n in range(6)), 2)  # of three labelers, one took everything back
    with database.transaction() as session:
        query = text("select status, count(*) from annotation where campaign_id = :id group by 1")
        statuses = dict(session.execute(query, {"id": campaign.id}).all())
    assert statuses == {"valid": 12, "superseded": 36, "deleted": 24}


def test_fifty_people_and_ten_tasks(database: Database) -> None:
    campaign = Campaign(database, tasks=10)
    with ThreadPoolExecutor(16) as pool:
        leases = [lease for found in pool.map(lambda n: campaign.labels.lease(campaign.id, f"l{n}", 2), range(50)) for lease in found]
    assert len({lease.task for lease in leases}) == len(leases)
    while more := campaign.labels.lease(campaign.id, "last", 5):  # rows that were skipped as locked are still to be had
        leases += more
    assert sorted(lease.task for lease in leases) == sorted(f"t{n}" for n in range(10))


def test_a_lease_that_ran_out_is_free_again(database: Database) -> None:
    campaign = Campaign(database, tasks=1, lease="1s")
    first = campaign.labels.lease(campaign.id, "ada", 5)
    assert [lease.task for lease in first] == ["t0"]
    assert campaign.labels.lease(campaign.id, "bob", 5) == []
    with database.transaction() as session:
        session.execute(text("update assignment set expires_at = now() where id = :id"), {"id": first[0].assignment})
    second = campaign.labels.lease(campaign.id, "bob", 5)
    assert [lease.task for lease in second] == ["t0"]
    with pytest.raises(LeaseLost):
        campaign.labels.extend(first[0].assignment, first[0].token)
    campaign.labels.release(second[0].assignment, second[0].token)
    assert [lease.task for lease in campaign.labels.lease(campaign.id, "ada", 5)] == ["t0"]
    # what was answered under a lost lease is kept, as long as it can still count
    assert campaign.answer(said("t0", lease=(first[0].assignment, first[0].token))) == [S.VALID]
    assert campaign.labels.lease(campaign.id, "ada", 5) == []


def test_opinions_until_they_agree_and_then_a_judge(database: Database) -> None:
    campaign = Campaign(database, tasks=1, overlap={"labels": 2, "most": 2, "agreement": 0.7})
    campaign.answer(said("t0", "ham", by="ada"), said("t0", "spam", by="bob"))
    assert campaign.rows.tick(campaign.id).decided == 0
    assert campaign.states() == {"t0": "disputed"}
    with pytest.raises(Conflict, match="adjudicate"):
        campaign.rows.adjudicate(campaign.id, "t0", "ada", "ham", "mine")
    with pytest.raises(InvalidInput, match="ham, spam"):
        campaign.rows.adjudicate(campaign.id, "t0", "eve", "eggs", "?")
    campaign.rows.adjudicate(campaign.id, "t0", "eve", "ham", "a greeting")
    campaign.rows.adjudicate(campaign.id, "t0", "eve", "ham", "a greeting")
    assert campaign.rows.tick(campaign.id).decided == 1


def test_skips_ask_for_a_judge(database: Database) -> None:
    campaign = Campaign(database, tasks=1, skips=2)
    assert campaign.answer(said("t0", None, by="ada", skip=True), said("t0", None, by="bob", skip=True)) == [S.SKIPPED, S.SKIPPED]
    assert campaign.states() == {"t0": "disputed"}


def test_a_labeler_who_fails_on_gold_is_blocked_and_asked_after(database: Database) -> None:
    campaign = Campaign(database, tasks=3, gold={"rate": 1, "least": 2, "block": 0.6, "warn": 0.8, "requeue": 2})
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold="ham") for n in range(2)])
    assert campaign.labels.lease(campaign.id, "eve", 1)[0].task.startswith("g")
    campaign.answer(said("t0", by="eve"), said("t1", by="eve"), said("t2", by="eve"))
    assert campaign.rows.tick(campaign.id).decided == 3
    campaign.answer(said("g0", "spam", by="eve"), said("g1", "spam", by="eve"))
    with pytest.raises(AccessDenied):
        campaign.labels.lease(campaign.id, "eve", 1)
    tick = campaign.rows.tick(campaign.id)
    assert (tick.decided, tick.over) == (1, None)
    assert sorted(campaign.states().values()) == ["decided", "open", "open", "open", "open"]
    assert sum(campaign.counted()[f"t{n}"] for n in range(3)) == 1
    assert campaign.answer(said("t0", by="eve", key="again", at=9)) in ([S.BLOCKED], [S.SUPERSEDED])


def judged(database: Database, labeler: str) -> tuple[int, int]:
    with database.transaction() as session:
        query = text("select gold_right, gold_wrong from labeler where principal = :who")
        return tuple(session.execute(query, {"who": labeler}).one())


def test_gold_is_judged_once_a_task(database: Database) -> None:
    campaign, who = Campaign(database), uuid4().hex
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold="ham") for n in range(2)])
    campaign.answer(said("g0", None, by=who, skip=True))
    assert judged(database, who) == (0, 0)
    campaign.answer(said("g0", by=who, at=1))
    campaign.answer(said("g0", "ham", by=who, at=2))
    assert judged(database, who) == (0, 1)
    campaign.answer(said("g1", "ham", by=who))
    campaign.answer(said("g1", by=who, deleted=True))
    assert campaign.answer(said("g1", "ham", by=who, key="again", at=3)) == [S.VALID]
    assert judged(database, who) == (1, 1)


def test_a_known_number_is_the_same_however_it_is_written(database: Database) -> None:
    campaign, who = Campaign(database, choices=[]), uuid4().hex
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold=12) for n in range(2)])
    campaign.labels.accept(campaign.id, [replace(said("g0", by=who), value=12.0), replace(said("g1", by=who), value=12.5)])
    assert judged(database, who) == (1, 1)


def test_answers_to_gold_at_once_are_all_counted(database: Database) -> None:
    campaign, who = Campaign(database), uuid4().hex
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold="ham") for n in range(24)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: campaign.answer(said(f"g{n}", "ham", by=who)), range(24)))
    assert judged(database, who) == (24, 0)


def test_a_deadline_that_no_calendar_has_is_refused(database: Database) -> None:
    campaign = Campaign(database, deadline="3650d")
    for deadline in (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), datetime(2200, 1, 1, tzinfo=UTC)):
        with pytest.raises(InvalidInput, match="out of reach"):
            campaign.rows.command(campaign.id, "extend", "far", CampaignCommand(deadline=deadline))
    assert campaign.rows.tick(campaign.id).over is None


def test_a_task_is_leased_once_to_a_labeler_who_asks_twice_at_once(database: Database) -> None:
    campaign = Campaign(database, tasks=2, overlap={"labels": 9, "most": 9})
    with ThreadPoolExecutor(6) as pool:
        found = [lease for each in pool.map(lambda _: campaign.labels.lease(campaign.id, "ada", 2), range(6)) for lease in each]
    assert len(found) == len({lease.task for lease in found})
    assert len([each for each in campaign.labels.held([(lease.assignment, lease.token) for lease in found]) if each]) == len(found)


def test_a_decided_answer_that_is_taken_back_is_asked_again(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    campaign.answer(said("t0"))
    assert campaign.rows.tick(campaign.id).decided == 1
    assert campaign.answer(said("t0", deleted=True)) == [S.DELETED]
    assert campaign.rows.tick(campaign.id).decided == 0
    assert campaign.states() == {"t0": "open"}


def test_what_is_taken_back_is_in_the_same_hands_again(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    lease = campaign.labels.lease(campaign.id, "ada", 1)[0]
    first = said("t0", key="first", lease=(lease.assignment, lease.token))
    assert campaign.answer(first) == [S.VALID]
    assert campaign.labels.take_back(campaign.id, first).status is S.DELETED
    assert campaign.counted() == {"t0": 0}
    assert campaign.labels.lease(campaign.id, "bob", 1) == []  # nobody else gets it meanwhile
    assert campaign.answer(said("t0", "ham", key="second", at=1, lease=(lease.assignment, lease.token))) == [S.VALID]
    assert campaign.labels.take_back(campaign.id, first).duplicate  # sent again: the second answer stays, and the lease is over
    with pytest.raises(LeaseLost):
        campaign.labels.extend(lease.assignment, lease.token)
    assert campaign.counted() == {"t0": 1}
    campaign.rows.close(campaign.id, "enough")
    with pytest.raises(Conflict, match="your answer stands"):
        campaign.labels.take_back(campaign.id, said("t0", key="second", at=1))


def test_another_window_takes_over_what_its_labeler_holds(database: Database) -> None:
    campaign = Campaign(database)
    held = campaign.labels.lease(campaign.id, "ada", 2)
    assert campaign.labels.resume(campaign.id, "bob", 5) == []
    again = campaign.labels.resume(campaign.id, "ada", 5)
    assert [each.assignment for each in again] == [each.assignment for each in held]
    assert {each.token for each in again}.isdisjoint(each.token for each in held)
    campaign.labels.release(again[0].assignment, again[0].token)
    with pytest.raises(LeaseLost):  # the first window, which is left later, gives nothing back that is not its own
        campaign.labels.release(held[1].assignment, held[1].token)
    assert [each.assignment for each in campaign.labels.resume(campaign.id, "ada", 5)] == [again[1].assignment]


def test_a_decision_by_hand_during_a_look_is_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(database, tasks=2, skips=1)
    campaign.answer(said("t0"), said("t1", None, skip=True))
    decide = campaign.rows._decide

    def meanwhile(*args: Any) -> Any:
        decided = decide(*args)
        CampaignRows(database).adjudicate(campaign.id, "t1", "eve", "ham", "mine")
        return decided

    monkeypatch.setattr(campaign.rows, "_decide", meanwhile)
    assert campaign.rows.tick(campaign.id).decided == 2


def test_only_what_is_disputed_is_decided_by_hand(database: Database) -> None:
    campaign = Campaign(database, tasks=2, skips=1)
    campaign.rows.put_tasks(campaign.id, [NewTask(key="g", payload={}, gold="ham")])
    campaign.answer(said("t0", None, skip=True))
    for task in ("t1", "g"):
        with pytest.raises(Conflict, match="not disputed"):
            campaign.rows.adjudicate(campaign.id, task, "eve", "ham", "mine")
    campaign.rows.close(campaign.id, "enough")
    with pytest.raises(Conflict, match="closed"):
        campaign.rows.adjudicate(campaign.id, "t0", "eve", "ham", "mine")


def test_a_decision_by_hand_outlives_its_opinions(database: Database) -> None:
    campaign = Campaign(database, tasks=1, overlap={"labels": 2, "most": 2, "agreement": 0.7})
    campaign.answer(said("t0", "ham", by="ada"), said("t0", "spam", by="bob"))
    campaign.rows.tick(campaign.id)
    campaign.rows.adjudicate(campaign.id, "t0", "eve", "ham", "a greeting")
    assert campaign.answer(said("t0", by="ada", deleted=True)) == [S.DELETED]
    block(database, "bob")
    assert campaign.rows.tick(campaign.id).decided == 1
    assert campaign.counted() == {"t0": 0}
    assert campaign.states() == {"t0": "decided"}


def test_a_task_that_lost_an_opinion_is_decided_anew(database: Database) -> None:
    campaign = Campaign(database, tasks=2, overlap={"labels": 2, "most": 2})
    by = uuid4().hex
    campaign.answer(*(said("t0", by=who) for who in (by, "bob", "cy")), said("t1", "ham", by=by), said("t1", by="bob"))
    with database.transaction() as session:
        session.execute(text("update task set state = 'disputed' where campaign_id = :id and key = 't1'"), {"id": campaign.id})
    assert campaign.rows.tick(campaign.id).decided == 1
    first = next(campaign.rows.export(campaign.id))
    assert len(first["opinions"]) == 3
    block(database, by)
    tick = campaign.rows.tick(campaign.id)
    assert campaign.states() == {"t0": "decided", "t1": "open"}
    assert (tick.decided, next(campaign.rows.export(campaign.id))["posterior"] == first["posterior"]) == (1, False)


def test_a_deletion_after_the_end_is_kept_and_changes_nothing(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    campaign.answer(said("t0"))
    campaign.rows.tick(campaign.id)
    campaign.rows.close(campaign.id, "enough")
    exported = list(campaign.rows.export(campaign.id))
    assert campaign.answer(said("t0", deleted=True)) == [S.DELETED]
    assert campaign.rows.annotations(campaign.id) == {S.DELETED: 1, S.VALID: 1}
    assert campaign.counted() == {"t0": 1}
    assert list(campaign.rows.export(campaign.id)) == exported


def test_the_last_look_waits_for_late_answers(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    campaign.answer(said("t0"))
    campaign.rows.close(campaign.id, "enough")
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            assert campaign.labels.accept_within(session, campaign.id, [said("t0", by="bob")])[0].status is S.LATE
            look = pool.submit(campaign.rows.tick, campaign.id)
            time.sleep(0.3)
        assert look.result().decided == 1


def test_what_got_more_to_do_is_not_closed(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    campaign.answer(said("t0"))
    reason = campaign.rows.tick(campaign.id).over
    assert reason == "every task has its label"
    manifest = ArtifactRef(uri="s3://b/tasks", sha256="2" * 64)
    campaign.rows.announce(campaign.id, manifest)
    assert campaign.rows.close(campaign.id, reason, only_if_over=True).state is CampaignState.OPEN
    campaign.rows.add_tasks(campaign.id, manifest, 1, [NewTask(key="t1", payload={})], last=True)
    assert campaign.rows.close(campaign.id, reason, only_if_over=True).state is CampaignState.OPEN
    campaign.answer(said("t1"))
    assert campaign.rows.tick(campaign.id).over == reason
    for _ in range(2):
        assert campaign.rows.close(campaign.id, reason, only_if_over=True).state is CampaignState.CLOSED


def test_a_withdrawn_campaign_goes_on_with_its_answers_and_the_time_that_it_had_left(database: Database) -> None:
    campaign = Campaign(database, deadline="10d")
    campaign.answer(said("t0"))
    before = campaign.rows.campaign(campaign.id)
    asked = before.name, {**SPEC, "deadline": "10d"}, f"campaign/{before.name}", "test"
    overtaken = datetime.now(UTC)
    campaign.rows.close(campaign.id, WITHDRAWN)
    assert campaign.answer(said("t1")) == [S.LATE]
    assert campaign.rows.open(*asked, overtaken).state is CampaignState.CLOSED
    time.sleep(0.2)
    again = campaign.rows.open(*asked, datetime.now(UTC))
    assert (again.state, again.closed_reason) == (CampaignState.OPEN, None)
    assert again.deadline is not None
    assert before.deadline is not None
    assert timedelta(seconds=0.2) <= again.deadline - before.deadline < timedelta(seconds=30)
    assert campaign.answer(said("t1", by="bob"), said("t2")) == [S.VALID, S.VALID]
    assert campaign.counted() == {"t0": 1, "t1": 1, "t2": 1}
    campaign.rows.close(campaign.id, WITHDRAWN)
    campaign.rows.open(*asked)
    campaign.rows.close(campaign.id, "enough for now")
    assert campaign.rows.open(*asked).state is CampaignState.CLOSED, "only a withdrawal is taken back"


def test_nothing_counts_after_the_end(database: Database) -> None:
    campaign = Campaign(database, tasks=40)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(campaign.answer, said(f"t{n}")) for n in range(20)]
        closed = pool.submit(campaign.rows.close, campaign.id, "enough")
        sent += [pool.submit(campaign.answer, said(f"t{n}")) for n in range(20, 40)]
        statuses = [each.result()[0] for each in sent]
    assert closed.result().state is CampaignState.CLOSED
    before = campaign.counted()
    assert sum(before.values()) == statuses.count(S.VALID)
    assert statuses.count(S.VALID) + statuses.count(S.LATE) == 40
    while campaign.rows.tick(campaign.id, limit=7).more:
        pass
    exported = list(campaign.rows.export(campaign.id))
    assert len(exported) == statuses.count(S.VALID)
    assert exported == list(campaign.rows.export(campaign.id))
    content = ArtifactRef(uri="s3://b/labels/x", sha256="0" * 64, size=1)
    assert [campaign.rows.snapshot(campaign.id, content, len(exported), {}) for _ in range(2)] == [1, 1]


def test_commands_once_and_in_order(database: Database) -> None:
    campaign = Campaign(database)
    paused = campaign.rows.command(campaign.id, "pause", "c1", CampaignCommand(actor="ada", expected_version=1))
    assert (paused.state, paused.version) == (CampaignState.PAUSED, 2)
    assert campaign.rows.command(campaign.id, "pause", "c1", CampaignCommand(actor="ada", expected_version=1)).version == 2
    assert campaign.labels.lease(campaign.id, "ada", 1) == []
    with pytest.raises(Conflict, match="version 2"):
        campaign.rows.command(campaign.id, "resume", "c2", CampaignCommand(expected_version=1))
    with pytest.raises(Conflict, match="paused"):
        campaign.rows.command(campaign.id, "pause", "c3", CampaignCommand())
    assert campaign.rows.command(campaign.id, "resume", "c4", CampaignCommand(expected_version=2)).state is CampaignState.OPEN
    campaign.rows.command(campaign.id, "close", "c5", CampaignCommand(actor="ada", reason="enough"))
    assert campaign.rows.tick(campaign.id).over == "enough"


def test_an_import_goes_on_where_it_stopped(database: Database) -> None:
    campaign = Campaign(database, tasks=0)
    manifest = ArtifactRef(uri="s3://b/tasks", sha256="1" * 64)
    rows = [NewTask(key=f"t{n}", payload={"n": n}) for n in range(10)]
    assert campaign.rows.imported(campaign.id, manifest) == 0
    campaign.rows.add_tasks(campaign.id, manifest, 6, rows[:6], last=False)
    assert campaign.rows.tick(campaign.id).over is None
    campaign.rows.add_tasks(campaign.id, manifest, 6, rows[:6], last=False)
    assert campaign.rows.imported(campaign.id, manifest) == 6
    campaign.rows.add_tasks(campaign.id, manifest, 10, rows[6:], last=True)
    assert campaign.rows.campaign(campaign.id).total == 10


def test_the_ladder_is_climbed_once(database: Database) -> None:
    ladder = [{"after": 0.5, "then": "remind"}, {"after": 0.8, "then": "lower_overlap", "tell": "boss"}]
    campaign = Campaign(database, tasks=1, overlap={"labels": 2, "most": 2}, deadline="10h", ladder=ladder, owner="ada")
    campaign.answer(said("t0"))
    assert campaign.rows.tick(campaign.id).decided == 0
    shift(campaign, 9)
    campaign.rows.tick(campaign.id)
    tick = campaign.rows.tick(campaign.id)
    assert tick.decided == 1  # one opinion is enough now
    with database.transaction() as session:
        told = session.execute(text("select target, payload->>'kind' from outbox where topic = 'notify' order by id")).all()
        mine = [tuple(row) for row in told if row[0] in ("ada", "boss")]
    assert mine[-2:] == [("ada", "remind"), ("boss", "lower_overlap")]


def test_overlap_is_lowered_once_a_page_of_tasks_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE", 3)
    ladder = [{"after": 0.5, "then": "lower_overlap"}]
    campaign = Campaign(database, tasks=8, overlap={"labels": 3, "most": 3}, deadline="10h", ladder=ladder)
    campaign.rows.put_tasks(campaign.id, [NewTask(key="gold", payload={}, gold="ham")])
    campaign.answer(*(said(f"t{n}", by=who) for n in (0, 7) for who in ("ada", "bob")))
    shift(campaign, 6)
    ticks = [campaign.rows.tick(campaign.id)]
    while ticks[-1].more:
        assert campaign.rows.close(campaign.id, "over", only_if_over=True).state is CampaignState.OPEN
        ticks.append(campaign.rows.tick(campaign.id))
    assert ticks[-1].decided == 2
    query = text("select key, overlap from task where campaign_id = :id order by key")
    with database.transaction() as session:
        overlaps = dict(session.execute(query, {"id": campaign.id}).all())
    assert overlaps.pop("gold") > 1_000
    assert set(overlaps.values()) == {2}


def test_a_campaign_does_not_end_while_tasks_arrive(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    campaign.answer(said("t0"))
    with campaign.rows.arriving(campaign.id), campaign.rows.arriving(campaign.id):
        assert campaign.rows.tick(campaign.id).over is None
        assert campaign.rows.close(campaign.id, "every task has its label", only_if_over=True).state is CampaignState.OPEN
    assert campaign.rows.tick(campaign.id).over == "every task has its label"


def test_an_import_needs_one_connection_and_leaves_no_lock(stack: Stack) -> None:
    settings = stack.isolated()
    upgrade(settings)
    with Database.open(settings.model_copy(update={"postgres": settings.postgres.model_copy(update={"pool": 1})})) as database:
        campaign = Campaign(database, tasks=1)
        campaign.answer(said("t0"))
        with campaign.rows.arriving(campaign.id) as put:
            assert put([NewTask(key="t0", payload={}), NewTask(key="t1", payload={})]) == 1
        with pytest.raises(ZeroDivisionError), campaign.rows.arriving(campaign.id):
            raise ZeroDivisionError
        assert campaign.rows.tick(campaign.id).total == 2
        campaign.answer(said("t1"))
        assert campaign.rows.tick(campaign.id).over == "every task has its label"


def test_an_undone_answer_of_one_window_leaves_another_window_its_task(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    [old] = campaign.labels.lease(campaign.id, "ada", 1)
    with database.transaction() as session:
        session.execute(text("update assignment set expires_at = now() - interval '1 s' where id = :id"), {"id": old.assignment})
    [new] = campaign.labels.lease(campaign.id, "ada", 1)
    late = said("t0", lease=(old.assignment, old.token))
    campaign.answer(late, said("t0", "ham", key="other", at=1, lease=(new.assignment, new.token)))
    result = campaign.labels.take_back(campaign.id, late)
    assert result.error is None
    assert campaign.counted() == {"t0": 1}, "what the other window said stands"


def test_who_deletes_a_submitted_answer_may_get_the_task_again(database: Database) -> None:
    campaign = Campaign(database, tasks=1)
    [lease] = campaign.labels.lease(campaign.id, "ada", 5)
    campaign.answer(said("t0", lease=(lease.assignment, lease.token)))
    assert campaign.labels.lease(campaign.id, "ada", 5) == []
    campaign.answer(said("t0", deleted=True, at=1))
    assert [each.task for each in campaign.labels.lease(campaign.id, "ada", 5)] == ["t0"]


def test_a_rung_or_deadline_that_is_near_is_not_slept_through(database: Database) -> None:
    campaign = Campaign(database, deadline="10h", ladder=[{"after": 0.5, "then": "remind"}])
    assert campaign.rows.tick(campaign.id).due == pytest.approx(timedelta(hours=5), abs=timedelta(seconds=20))
    shift(campaign, 5)
    assert campaign.rows.tick(campaign.id).due == pytest.approx(timedelta(hours=5), abs=timedelta(seconds=20))
    endless = Campaign(database)
    assert endless.rows.tick(endless.id).due is None


def test_the_deadline_ends_it(database: Database) -> None:
    campaign = Campaign(database, deadline="10h")
    shift(campaign, 11)
    assert campaign.rows.tick(campaign.id).over == "the deadline is over"


def shift(campaign: Campaign, hours: int) -> None:
    """Let time pass."""
    earlier = "opened_at = opened_at - :by * interval '1 hour', deadline = deadline - :by * interval '1 hour'"
    with campaign.database.transaction() as session:
        session.execute(text(f"update campaign set {earlier} where id = :id"), {"by": hours, "id": campaign.id})


def block(database: Database, labeler: str) -> None:
    """As failing on gold does."""
    with database.transaction() as session:
        session.execute(text("update labeler set status = 'blocked', requeue_due = true where principal = :who"), {"who": labeler})
