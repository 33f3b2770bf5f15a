"""Many at once: who asks gets work, and transactions that meet do not stop each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from perdure.keys import identity
from perdure.labeling.deliveries import Arrived, Meaning
from perdure.labeling.ports import NewTask
from perdure.messages.labeling import AnnotationStatus
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, CampaignRows, DeliveryRows, LabelRows
from perdure.metadata.repository.answers import AnswerRows
from perdure.metadata.repository.requeue import _requeue
from perdure.metadata.tables import HookProvider
from tests.metadata.test_labeling import Campaign, said

S = AnnotationStatus


def test_nobody_goes_away_empty_handed_while_there_are_tasks(database: Database) -> None:
    campaign = Campaign(database, tasks=30)
    found = [[lease.task for lease in campaign.labels.lease(campaign.id, f"l{n}", 5)] for n in range(7)]
    assert [len(tasks) for tasks in found] == [5, 5, 5, 5, 5, 5, 0]
    assert len({task for tasks in found for task in tasks}) == 30


def test_a_task_is_in_as_many_hands_as_opinions_are_wanted(database: Database) -> None:
    campaign = Campaign(database, tasks=2, overlap={"labels": 2, "most": 2})
    found = [[lease.task for lease in campaign.labels.lease(campaign.id, f"l{n}", 1)] for n in range(5)]
    assert sorted(task for tasks in found for task in tasks) == ["t0", "t0", "t1", "t1"]


def test_who_leases_waits_for_no_gold_answer_of_the_same_labeler(database: Database) -> None:
    """It may hold a lease that the answer ends: each would wait for the other."""
    who, campaign, other = uuid4().hex, Campaign(database, tasks=1), Campaign(database, tasks=1)
    campaign.rows.put_tasks(campaign.id, [NewTask(key="g0", payload={}, gold="ham")])
    campaign.answer(said("t0", by=who))
    with database.transaction() as session:
        assert campaign.labels.accept_within(session, campaign.id, [said("g0", "ham", by=who)])[0].status is S.VALID
        assert [lease.task for lease in other.labels.lease(other.id, who, 1)] == ["t0"]


def test_looks_that_decide_at_once_do_not_wait_for_each_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, both = Campaign(database, tasks=2), Barrier(2)
    campaign.answer(said("t0"), said("t1"))
    climb = CampaignRows._climb

    def meet(self: CampaignRows, *args: Any, closing: bool) -> bool:
        if not closing:
            both.wait(10)  # each has decided one task, and none has the campaign yet
        return climb(self, *args, closing=closing)

    monkeypatch.setattr(CampaignRows, "_climb", meet)
    with ThreadPoolExecutor(2) as pool:
        ticks = list(pool.map(lambda rows: rows.tick(campaign.id, 1), [CampaignRows(database), CampaignRows(database)]))
    assert sorted(tick.decided for tick in ticks) == [1, 2]


def test_answers_are_taken_back_once_however_many_look(database: Database) -> None:
    who = uuid4().hex
    campaign = Campaign(database, tasks=4, gold={"rate": 0, "least": 1, "requeue": 1})
    campaign.rows.put_tasks(campaign.id, [NewTask(key="g0", payload={}, gold="ham")])
    campaign.answer(*(said(f"t{n}", by=who) for n in range(4)), said("g0", "spam", by=who))
    for _ in range(3):  # all of them had read that the labeler is due
        _requeue(database, database.tenant, identity(database.tenant, "labeler", who))
    assert sum(campaign.counted()[f"t{n}"] for n in range(4)) == 3


def test_the_same_key_for_two_tasks_at_once_names_one_answer(database: Database) -> None:
    """As two processes of the gateway take them: each knows nothing of the other's answer until both are written."""
    campaign = Campaign(database, tasks=3)
    campaign.answer(said("t2"))  # a new labeler's row would be waited for
    both, read = Barrier(2), AnswerRows._read

    class Other(LabelRows):
        met = False

        def _read(self, *args: Any) -> Any:
            batch = read(self, *args)
            if not self.met:
                self.met = True
                both.wait(10)
            return batch

    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(Other(database).accept, campaign.id, [said(f"t{n}", key="once")]) for n in range(2)]
        results = [each.result()[0] for each in sent]
    assert sorted(result.status or "" for result in results) == ["", "valid"]
    assert [result.error for result in results if result.error] == ["the key 'once' names an answer to another task"]
    assert sorted(campaign.counted().values()) == [0, 1, 1]


def test_a_hook_that_names_another_task_at_once_is_quarantined(database: Database) -> None:
    campaign = Campaign(database, tasks=3)
    campaign.answer(said("t2"))  # a new labeler's row would be waited for
    hook = AccessRows(database).create_hook(uuid4().hex[:8], HookProvider.STANDARD, campaign.id, "env:SECRET", "ann").id
    both, read = Barrier(2), AnswerRows._read
    rows = [DeliveryRows(database), DeliveryRows(database)]

    def send(number: int) -> Any:
        met: list[bool] = []

        def meet(*args: Any) -> Any:
            batch = read(rows[number]._labels, *args)
            if not met:
                met.append(True)
                both.wait(10)
            return batch

        rows[number]._labels._read = meet  # type: ignore[assignment, method-assign]
        arrived = Arrived(hook=hook, key=f"d{number}", body=b"{}", body_sha256="0" * 64, headers={}, campaign=campaign.id)
        return rows[number].receive(arrived, Meaning(answers=[said(f"t{number}", key="once")]))

    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(send, range(2)))
    assert sorted(each.state for each in kept) == ["processed", "quarantined"]
    assert [each.error for each in kept if each.error and "another task" in each.error]
