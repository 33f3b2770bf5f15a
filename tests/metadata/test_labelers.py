"""Labelers who fail on gold: who is told, who can lift the block, and what stays."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from perdure.errors import AccessDenied, InvalidInput, NotFound
from perdure.labeling.ports import NewTask
from perdure.messages.labeling import AnnotationStatus
from perdure.metadata.database import Database
from perdure.metadata.queries.labelers import list_labelers
from perdure.metadata.repository import LabelerRows
from tests.metadata.test_labeling import Campaign, said

S = AnnotationStatus
RULE = {"rate": 0, "least": 2, "warn": 0.8, "block": 0.4, "requeue": 5}


def with_gold(database: Database, **spec: Any) -> Campaign:
    campaign = Campaign(database, gold=RULE, **spec)
    campaign.rows.put_tasks(campaign.id, [NewTask(key=f"g{n}", payload={}, gold="ham") for n in range(8)])
    return campaign


def blocked(database: Database, **spec: Any) -> Campaign:
    """Eve has leased and answered two tasks, and then failed."""
    campaign = with_gold(database, **spec)
    leases = campaign.labels.lease(campaign.id, "eve", 2)
    campaign.answer(*(said(each.task, by="eve", lease=(each.assignment, each.token)) for each in leases))
    campaign.answer(said("g0", "spam", by="eve"), said("g1", "spam", by="eve"))
    return campaign


def told(database: Database, owner: str) -> list[dict[str, Any]]:
    query = text("select payload from outbox where topic = 'notify' and target = :who order by id")
    with database.transaction() as session:
        return list(session.scalars(query, {"who": owner}))


def audit(database: Database) -> list[tuple[Any, ...]]:
    query = text("select action, actor, reason, before, after from audit where tenant = :tenant order by id")
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(query, {"tenant": database.tenant})]


def standing(database: Database) -> tuple[str, int, int]:
    (row,) = list_labelers(database)
    return (row.status, row.right, row.seen)


def test_the_owner_is_told_of_a_warning_and_a_block_once_each(database: Database) -> None:
    owner = uuid4().hex
    campaign = with_gold(database, owner=owner)
    campaign.answer(said("g0", "ham", by="eve"))
    since = list_labelers(database)[0].since
    for number in range(1, 7):
        campaign.answer(said(f"g{number}", "spam", by="eve"))
    with database.transaction() as session:
        name = session.scalar(text("select name from campaign where id = :id"), {"id": campaign.id})
    found = [(each["kind"], each["campaign"], each["labeler"], each["right"], each["seen"]) for each in told(database, owner)]
    assert found == [("labeler_warned", name, "eve", 1, 2), ("labeler_blocked", name, "eve", 1, 3)]
    (row,) = list_labelers(database)
    assert (row.name, row.status, row.answers, row.right, row.seen, row.accuracy) == ("eve", "blocked", 7, 1, 3, 1 / 3)
    assert row.since > since


def test_whoever_is_unblocked_starts_anew_and_what_was_taken_back_stays_so(database: Database) -> None:
    campaign = blocked(database)
    with pytest.raises(AccessDenied):
        campaign.labels.lease(campaign.id, "eve", 5)
    campaign.rows.tick(campaign.id)
    assert campaign.rows.annotations(campaign.id) == {S.BLOCKED: 2, S.VALID: 2}
    rows = LabelerRows(database)
    assert [rows.unblock("eve", "ann", "a bad question") for _ in range(2)] == [True, False]
    before, after = ({"status": status, "gold_right": 0, "gold_wrong": wrong} for status, wrong in (("blocked", 2), ("active", 0)))
    assert audit(database) == [("labeler.unblock", "ann", "a bad question", before, after)]
    campaign.answer(said("g2", "spam", by="eve"))
    campaign.rows.tick(campaign.id)
    assert standing(database) == ("active", 0, 1)  # not at once again
    assert campaign.rows.annotations(campaign.id) == {S.BLOCKED: 2, S.VALID: 3}
    leases = campaign.labels.lease(campaign.id, "eve", 5)
    assert sorted(each.task for each in leases) == ["t0", "t1", "t2"]  # those of before, too
    again = [said(each.task, by="eve", key=f"again/{each.task}", at=9, lease=(each.assignment, each.token)) for each in leases]
    assert campaign.answer(*again) == [S.VALID] * 3
    assert campaign.counted() == {**dict.fromkeys(("t0", "t1", "t2"), 1), **dict.fromkeys(("g0", "g1", "g2"), 1)} | {
        f"g{n}": 0 for n in range(3, 8)
    }


def test_whoever_is_unblocked_before_anything_is_taken_back_keeps_it(database: Database) -> None:
    campaign = blocked(database)
    LabelerRows(database).unblock("eve", "ann", "a bad question")
    assert campaign.rows.tick(campaign.id).decided == 2
    assert campaign.rows.annotations(campaign.id) == {S.VALID: 4}


@pytest.mark.parametrize("take_back", [False, True])
def test_a_block_by_hand_takes_back_what_it_is_told_to(database: Database, take_back: bool) -> None:
    campaign = with_gold(database)
    campaign.answer(said("t0", by="eve"))
    campaign.rows.tick(campaign.id)
    rows = LabelerRows(database)
    assert [rows.block("eve", "ann", "spam", take_back=take_back) for _ in range(2)] == [True, False]
    with pytest.raises(AccessDenied):
        campaign.labels.lease(campaign.id, "eve", 1)
    assert campaign.answer(said("t1", by="eve")) == [S.BLOCKED]
    assert campaign.rows.tick(campaign.id).decided == (not take_back)
    assert campaign.states()["t0"] == ("open" if take_back else "decided")
    ((action, actor, reason, _, after),) = audit(database)
    assert (action, actor, reason, after["status"], after["take_back"]) == ("labeler.block", "ann", "spam", "blocked", take_back)


def test_labelers_are_listed_by_status(database: Database) -> None:
    campaign = blocked(database)
    campaign.answer(said("g0", "ham", by="bob"), said("g1", "spam", by="bob"), said("t2", by="ada"))
    assert [(row.name, row.status, row.accuracy) for row in list_labelers(database)] == [
        ("eve", "blocked", 0),
        ("bob", "warned", 0.5),
        ("ada", "active", None),
    ]
    assert [row.name for row in list_labelers(database, status="warned")] == ["bob"]
    assert [row.name for row in list_labelers(database, limit=1)] == ["eve"]
    with pytest.raises(InvalidInput, match="no status"):
        list_labelers(database, status="angry")
    with pytest.raises(NotFound, match="nobody"):
        LabelerRows(database).block("nobody", "ann", "?")
